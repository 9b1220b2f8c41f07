"""Labels by the surer one: a network that knows the truth, an annotator that knows its error."""

import numpy as np
import torch

from pchmr.body import load_body
from pchmr.body.joints import EVALUATION_14
from pchmr.data.sample import COLUMNS
from pchmr.geometry import project_pinhole, project_weak_perspective
from pchmr.models.output import HMROutput
from pchmr.personalize.consensus import consensus, neighbors, network_labels

from .test_lessons import Numbered

BODY = load_body()
CAMERA = torch.tensor([[0.9, 0.05, -0.1]])
BETAS = torch.tensor([[1.0, -0.5, *[0.0] * 8]])


class Knowing(torch.nn.Module):
    """Sees a shaped body that raises an arm, whatever the picture."""

    def forward(self, images: torch.Tensor) -> HMROutput:
        pose = torch.zeros(1, 23, 3)
        pose[0, 15, 2] = 0.7
        vertices = BODY(torch.tensor([[3.0, 0.0, 0.2]]), pose, BETAS).vertices
        vertices = vertices.expand(len(images), -1, -1)
        coarse, joints = vertices[:, :1], BODY.regress(vertices, EVALUATION_14)
        return HMROutput(CAMERA.expand(len(images), 3), joints, coarse, coarse, vertices)


def people(count: int) -> Numbered:
    found = Numbered(0.0, count)
    found.columns = {name: np.arange(count) for name in COLUMNS} | {"clip": np.zeros(count)}
    return found


def test_a_network_s_word_comes_back_from_its_parameters() -> None:
    found = network_labels(BODY, Knowing(), people(3), 64)
    names = ("global_orient", "body_pose", "betas", "transl")
    values = [torch.from_numpy(found[name]).float() for name in names]
    said = Knowing()(torch.zeros(3, 3, 8, 8))
    placed = BODY(*values).vertices
    assert torch.allclose(values[2], BETAS.expand(3, -1), atol=0.1)
    apart = placed - placed.mean(dim=1, keepdim=True)
    wanted = said.vertices - said.vertices.mean(dim=1, keepdim=True)
    assert (apart - wanted).norm(dim=-1).mean() < 0.003
    pixels = project_pinhole(placed, torch.from_numpy(found["intrinsics"]))
    crop = project_weak_perspective(said.vertices, said.camera)
    assert ((2 * pixels / 64 - 1) - crop).abs().max() < 0.06


def test_the_surer_one_is_taken() -> None:
    labels = {
        "global_orient": np.full((3, 3), 9.0, np.float32),
        "body_pose": np.full((3, 23, 3), 9.0, np.float32),
        "betas": np.full((3, 10), 9.0, np.float32),
        "transl": np.full((3, 3), 9.0, np.float32),
        "intrinsics": np.full((3, 3, 3), 9.0, np.float32),
        "predicted_error_mm": np.array([50.0, 180.0, np.nan], np.float32),
        "status": np.array(["accepted", "rejected", "rejected"], dtype="U8"),
    }
    found = consensus(BODY, Knowing(), people(3), labels, 120.0, 64)
    assert found["predicted_error_mm"].tolist() == [50.0, 120.0, 120.0]
    assert found["status"].tolist() == ["accepted", "review", "review"]
    assert (found["betas"] == 9.0).all(axis=1).tolist() == [True, False, False]
    assert (labels["betas"] == 9.0).all()


def test_moments_of_other_clips_do_not_count() -> None:
    near = neighbors(np.array([0, 0, 1]), np.array([0.0, 0.1, 0.1]))
    share = np.exp(-0.5)
    np.testing.assert_allclose(near[0], [1 / (1 + share), share / (1 + share), 0.0])
    np.testing.assert_allclose(near.sum(dim=1), 1.0)
