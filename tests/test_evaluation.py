from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.baselines import baselines
from pchmr.body import BodyModel
from pchmr.body.files import BodyFileError
from pchmr.body.joints import EVALUATION_14
from pchmr.config import SettingError
from pchmr.data.sample import Sample, Subset, mesh_of
from pchmr.evaluation import by_protocol, evaluate, protocol_2, score, truth_of
from pchmr.evaluation.protocols import Judged
from pchmr.losses.target import targets
from pchmr.models import build_model


def truth_mesh(body):
    return lambda s: body(s.global_orient, s.body_pose, s.betas, s.transl).vertices


def test_the_truth_scores_zero(tiny_body, toy_people) -> None:
    scores = score(truth_mesh(tiny_body), tiny_body, toy_people)
    assert scores.mpjpe_mm == pytest.approx(0, abs=1e-3)
    assert scores.pa_mpjpe_mm == pytest.approx(0, abs=1e-2)
    assert scores.mpvpe_mm == pytest.approx(0, abs=1e-3)
    assert scores.num_samples == len(toy_people)
    assert set(scores.per_joint_mm) == set(EVALUATION_14.names)
    assert set(scores.per_action_mm) == {"0", "1", "2", "3", "4"}


def test_a_global_shift_does_not_count_and_batches_do_not_matter(tiny_body, toy_people) -> None:
    moved = lambda s: truth_mesh(tiny_body)(s) * 1.1 + 5.0  # noqa: E731
    whole = score(moved, tiny_body, toy_people)
    parts = score(moved, tiny_body, toy_people, batch_size=5)
    assert whole.mpjpe_mm == pytest.approx(parts.mpjpe_mm, rel=1e-5)
    assert whole.pa_mpjpe_mm == pytest.approx(0, abs=1e-2)
    assert whole.mpjpe_mm > 1


def test_missing_mesh_truth_is_left_out_not_zero(tiny_body, toy_people) -> None:
    nobody = torch.zeros(len(toy_people), dtype=torch.bool)
    joints_only = replace(toy_people, sample=replace(toy_people.sample, has_smpl=nobody))
    scores = score(truth_mesh(tiny_body), tiny_body, joints_only)
    assert scores.mpvpe_mm is None
    assert scores.mpjpe_mm == pytest.approx(0, abs=1e-2)


def test_acceleration_error_over_consecutive_frames(tiny_body, toy_people) -> None:
    def with_jump(sample):
        vertices = truth_mesh(tiny_body)(sample)
        wide = torch.tensor([1.0, 1.0, 2.0])
        return torch.where((sample.index % 4 == 1)[:, None, None], vertices * wide, vertices)

    still = score(truth_mesh(tiny_body), tiny_body, toy_people)
    assert still.acceleration_error_mm == pytest.approx(0, abs=1e-2)
    assert score(with_jump, tiny_body, toy_people).acceleration_error_mm > 1
    gaps = Subset(toy_people, np.array([0, 2, 4, 6]))
    assert score(truth_mesh(tiny_body), tiny_body, gaps).acceleration_error_mm is None


def test_constant_baseline_is_exact_on_one_person(tiny_body, toy_people) -> None:
    one = Subset(toy_people, np.array([3]))
    scores = baselines(tiny_body, one, one)
    assert scores["mean_pose"].mpvpe_mm == pytest.approx(0, abs=1e-2)
    assert scores["t_pose"].mpjpe_mm > 1


def test_evaluate_puts_the_training_flag_back(tiny_body, toy_people) -> None:
    class Always(torch.nn.Module):
        def forward(self, images):
            assert not self.training
            mesh = truth_of(toy_people.batch(range(len(images))), tiny_body).vertices
            return type("Output", (), {"vertices": mesh})()

    model = Always().train()
    evaluate(model, tiny_body, toy_people)
    assert model.training


def test_unlabelled_people_leave_no_score(tiny_body, toy_people) -> None:
    some = torch.arange(len(toy_people)) % 5 != 2
    sample = replace(toy_people.sample, has_smpl=some, has_joints=some)
    people = replace(toy_people, sample=sample)
    scores = score(truth_mesh(tiny_body), tiny_body, people)
    assert set(scores.per_action_mm) == {"0", "1", "3", "4"}
    assert max(scores.per_joint_mm.values()) == pytest.approx(0, abs=1e-2)
    nobody = torch.zeros_like(some)
    people = replace(people, sample=replace(sample, has_smpl=nobody, has_joints=nobody))
    scores = score(truth_mesh(tiny_body), tiny_body, people)
    assert list(scores.row().values()) == [None, None, None]
    assert not scores.per_joint_mm and not scores.per_action_mm
    assert scores.acceleration_error_mm is None


def test_gendered_truth_is_each_persons_own_body(tiny_body, tiny_arrays, toy_people) -> None:
    taller = tiny_arrays["v_template"] * np.array([1.0, 1.1, 1.0], dtype=np.float32)
    arrays = {**tiny_arrays, "v_template": taller}
    tall = BodyModel(arrays, tiny_body.hierarchy, gender="male")
    genders = np.array(["female", "male", "female", "male"] * 3)
    people = replace(toy_people, columns={**toy_people.columns, "gender": genders})
    both = BodyModel(tiny_arrays, tiny_body.hierarchy)
    both.by_gender.update({"female": tiny_body, "male": tall})
    neutral = score(truth_mesh(tiny_body), tiny_body, people)
    judged = Judged(people, np.arange(12), gendered=True)
    gendered = score(truth_mesh(tiny_body), both, judged, batch_size=5)
    assert neutral.mpvpe_mm == pytest.approx(0, abs=1e-3)
    assert gendered.mpvpe_mm > 10
    assert (gendered.per_sample_mpjpe_mm[genders == "female"] < 1e-2).all()
    assert (gendered.per_sample_mpjpe_mm[genders == "male"] > 1).all()
    perfect = score(lambda sample: mesh_of(sample, both), both, judged)
    assert perfect.mpvpe_mm == pytest.approx(0, abs=1e-3)
    del both.by_gender["male"]
    with pytest.raises(BodyFileError, match="a male body: give --body FOLDER"):
        score(truth_mesh(tiny_body), both, judged)
    with pytest.raises(SettingError, match="column gender"):
        score(truth_mesh(tiny_body), both, Judged(toy_people, np.arange(12), gendered=True))


def test_gendered_labels_make_targets_of_their_own_body(tiny_body, tiny_arrays, toy_people) -> None:
    taller = tiny_arrays["v_template"] * np.array([1.0, 1.1, 1.0], dtype=np.float32)
    both = BodyModel(tiny_arrays, tiny_body.hierarchy)
    both.by_gender["male"] = BodyModel({**tiny_arrays, "v_template": taller}, tiny_body.hierarchy)
    people = replace(toy_people, sample=replace(toy_people.sample, gender=torch.tensor([2, 0] * 6)))
    sample = people.batch(range(12))
    found, neutral = targets(sample, both), targets(replace(sample, gender=None), both)
    off = (found.vertices - neutral.vertices).norm(dim=-1).mean(dim=1)
    assert (off[::2] > 0.005).all() and (off[1::2] < 1e-6).all()
    assert (found.vertices_coarse - neutral.vertices_coarse)[0].abs().max() > 0.005
    constant = baselines(both, Subset(people, np.array([4])), Subset(people, np.array([4])))
    assert constant["mean_pose"].mpvpe_mm == pytest.approx(0, abs=1e-2)
    mixed = Sample.joined([sample, toy_people.batch([1, 3])])
    assert mixed.gender is not None and mixed.gender.tolist() == [2, 0] * 6 + [0, 0]


def test_genders_as_labels_spell_them(tiny_body, toy_people) -> None:
    labels = np.array(["m", "f", "none", "0", "1", "-1"] * 2)
    people = replace(toy_people, columns={**toy_people.columns, "gender": labels})
    genders = Judged(people, np.arange(12), gendered=True).batch([0, 1, 2, 3, 4, 5]).gender
    assert genders is not None and genders.tolist() == [2, 1, 0, 2, 1, 0]


@pytest.fixture
def moved_labels(toy_people):
    """Labeled knees are 50 mm off the mesh; every third person has no labeled joints."""
    joints = toy_people.sample.joints.clone()
    joints[:, list(EVALUATION_14.indices(("left_knee", "right_knee"))), 1] += 0.05
    has = torch.arange(len(toy_people)) % 3 != 0
    return replace(toy_people, sample=replace(toy_people.sample, joints=joints, has_joints=has))


def test_labeled_joints_are_the_truth_where_asked(tiny_body, moved_labels) -> None:
    by_mesh, by_labels, paper = (
        score(truth_mesh(tiny_body), tiny_body, by_protocol(moved_labels, "all", truth))
        for truth in (None, "labels", "paper")
    )
    assert by_mesh.mpjpe_mm == pytest.approx(0, abs=1e-3)
    off = 50 * 2 / 14
    assert by_labels.mpjpe_mm == pytest.approx(off * 8 / 12, rel=1e-3)
    assert by_labels.per_sample_mpjpe_mm[0] == pytest.approx(0, abs=1e-3)
    assert paper.mpjpe_mm == pytest.approx(off, rel=1e-3)
    assert np.isnan(paper.per_sample_mpjpe_mm[0])
    assert by_labels.mpvpe_mm == pytest.approx(0, abs=1e-3)
    labeled = by_protocol(moved_labels, "all", "labels")
    shifted, plain = (baselines(tiny_body, moved_labels, x) for x in (labeled, moved_labels))
    assert shifted["mean_pose"].mpjpe_mm != plain["mean_pose"].mpjpe_mm
    assert shifted["mean_pose"].mpvpe_mm == plain["mean_pose"].mpvpe_mm


def test_protocol_2_is_two_subjects_in_one_camera(toy_people) -> None:
    subjects = np.array(["S1", "S9", "S11"] * 4)
    cameras = np.array(["60457274", "54138969"]).repeat(6)
    people = replace(toy_people, columns={"subject": subjects, "scene": cameras})
    assert protocol_2(people).rows.tolist() == [1, 2, 4, 5]
    judged = by_protocol(people, "h36m-p2", "paper")
    assert judged.columns["subject"].tolist() == ["S9", "S11", "S9", "S11"]
    assert by_protocol(people, "all", None) is people
    assert by_protocol(people, "all", "labels").content_hash == people.content_hash
    with pytest.raises(SettingError, match=r"is this Human3\.6M"):
        protocol_2(toy_people)


def test_bfloat16_is_near(tiny_body, make_people) -> None:
    torch.manual_seed(0)
    model = build_model("fastmetro_xs", tiny_body.hierarchy, image_size=64)
    people = make_people(tiny_body, 3, 64)
    whole, half = (evaluate(model, tiny_body, people, bf16=bf16) for bf16 in (False, True))
    assert whole.mpjpe_mm != half.mpjpe_mm
    assert half.mpjpe_mm == pytest.approx(whole.mpjpe_mm, rel=0.1)


def test_predictions_that_are_not_finite_are_counted_and_have_no_score(
    tiny_body, toy_people
) -> None:
    def diverged(sample):
        vertices = truth_mesh(tiny_body)(sample).clone()
        vertices[0, 0] = torch.nan
        return vertices

    scores = score(diverged, tiny_body, toy_people, batch_size=len(toy_people))
    assert scores.num_nonfinite == 1 and np.isnan(scores.pa_mpjpe_mm) and np.isnan(scores.mpjpe_mm)
    assert np.isfinite(scores.per_sample_mpjpe_mm[1:]).all()
