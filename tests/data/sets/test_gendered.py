"""Truth of each person's own body: scores, the world, targets, and who lacks the bodies."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.body.files import with_genders
from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.sample import mesh_of
from pchmr.data.sets.folder import ImportedPeople, is_gendered, load_body_of
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.placing import Bodies
from pchmr.evaluation import by_protocol, score
from pchmr.evaluation.protocols import Judged, gendered
from pchmr.evaluation.world import world_scores
from pchmr.losses.target import targets


def true_mesh(bodies: Bodies, people: ImportedPeople):
    """A predictor that knows who stands in each row, and their body."""
    genders = people.columns["gender"].tolist()

    def predict(sample):
        found = []
        for row, index in enumerate(sample.index.tolist()):
            own = bodies.of(genders[index])
            labels = (sample.global_orient, sample.body_pose, sample.betas, sample.transl)
            found.append(own(*(values[row : row + 1] for values in labels)).vertices)
        return torch.cat(found)

    return predict


@pytest.mark.parametrize(("name", "protocol"), [("3dpw", "3dpw"), ("emdb", "emdb1")])
def test_who_predicts_their_own_body_has_no_error(name, protocol, imported, bodies) -> None:
    people = ImportedPeople(imported[name].folder, "test", body=bodies.neutral)
    assert is_gendered(people.about)
    judged = by_protocol(people, protocol, None)
    found = score(true_mesh(bodies, people), bodies.neutral, judged)
    assert max(v for v in found.row().values() if v is not None) < 0.05
    assert max(found.per_joint_mm.values()) < 0.05
    neutral = lambda s: mesh_of(replace(s, gender=None), bodies.neutral)  # noqa: E731
    wrong = score(neutral, bodies.neutral, judged)
    assert wrong.mpvpe_mm > 5


def test_the_world_and_targets_are_of_their_own_body(imported, bodies) -> None:
    people = ImportedPeople(imported["emdb"].folder, "test", body=bodies.neutral)
    predict = true_mesh(bodies, people)

    class Knows(torch.nn.Module):
        """Predicts the true mesh about the place where the weak camera puts it."""

        def forward(self, images):
            sample = people.batch(rows)
            mesh = predict(sample)
            scale = 2 * sample.intrinsics[:, 0, :1] / (sample.transl[:, 2:] * images.shape[-1])
            middle = 2 * sample.intrinsics[:, :2, 2] / images.shape[-1] - 1
            shift = sample.transl[:, :2] + middle / scale
            camera = torch.cat([scale, shift], dim=1)
            vertices = mesh - sample.transl[:, None]
            return type("Output", (), {"camera": camera, "vertices": vertices})()

    rows = np.flatnonzero(people.columns["clip"] == people.columns["clip"][-1])
    found = world_scores(Knows(), bodies.neutral, Judged(people, rows, "mesh", SMPL_24))
    assert found["w_mpjpe_mm"] < 0.5 and found["mrpe_mm"] < 0.5
    sample = people.batch(rows)
    vertices = predict(sample)
    vertices = vertices - vertices.mean(dim=1, keepdim=True)
    target = targets(sample, bodies.neutral).vertices
    target = target - target.mean(dim=1, keepdim=True)
    assert (target - vertices).norm(dim=-1).max() < 1e-4


def test_who_lacks_the_bodies_is_told_the_cure(
    tiny_sets, tiny_bodies, tiny_body, tmp_path, make_job, imported, arrays, body
) -> None:
    cure = "give the --body FOLDER that holds the same ones, or import it anew with --truth neutral"
    with pytest.raises(InputError, match=cure):
        ImportedPeople(imported["3dpw"].folder, "test", body=body)
    other = BodyModel(arrays, body.hierarchy)
    other.by_gender.update({"female": other, "male": other})
    with pytest.raises(InputError, match=cure):
        ImportedPeople(imported["3dpw"].folder, "test", body=other)
    with pytest.raises(InputError, match=cure):
        load_body_of(imported["3dpw"].folder, tiny_bodies / "SMPL_NEUTRAL.npz")
    whole = load_body_of(imported["3dpw"].folder, tiny_bodies)
    assert set(whole.by_gender) == {"female", "male"}
    import_set(make_job("3dpw", tiny_sets["3dpw"], tmp_path, Bodies(tiny_body, {})))
    neutral = ImportedPeople(tmp_path, "test", body=tiny_body)
    assert neutral.batch([0]).gender is None
    assert not load_body_of(tmp_path, tiny_bodies).by_gender


def test_gendered_beside_counts_meshes_whatever_joints_are_true(
    tiny_sets, tiny_bodies, tmp_path, make_job
) -> None:
    """A neutral import with labeled joints as truth: beside it stand scores of gendered meshes."""
    body = load_body_of(None, tiny_bodies)
    import_set(make_job("3dpw", tiny_sets["3dpw"], tmp_path, Bodies(body, {})))
    people = ImportedPeople(tmp_path, "test", body=body)

    judged = by_protocol(people, "3dpw", "labels")
    neutral = lambda s: mesh_of(replace(s, gender=None), body)  # noqa: E731
    assert score(neutral, body, judged).mpjpe_mm < 0.05
    found = score(neutral, with_genders(body, tiny_bodies), gendered(judged)).row()
    assert min(value for value in found.values() if value is not None) > 0.1
