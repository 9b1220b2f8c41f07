"""Labels by the surer one: a network that knows the truth, an annotator that knows its error."""

from collections.abc import Mapping

import numpy as np
import torch

from pchmr.body import load_body
from pchmr.body.joints import EVALUATION_14
from pchmr.data.sample import COLUMNS
from pchmr.geometry import project_pinhole, project_weak_perspective
from pchmr.models.output import HMROutput
from pchmr.personalize.consensus import POSED, consensus, neighbors, network_labels

from .test_lessons import Numbered

BODY = load_body()
CAMERA = torch.tensor([[0.9, 0.05, -0.1]])
BETAS = torch.tensor([[1.0, -0.5, *[0.0] * 8]])


RAISED = np.zeros((23, 3), np.float32)
RAISED[15, 2] = 0.7
WRIST = EVALUATION_14.names.index("left_wrist")


class Knowing(torch.nn.Module):
    """Sees a shaped body that raises an arm, whatever the picture."""

    def forward(self, images: torch.Tensor) -> HMROutput:
        pose = torch.from_numpy(RAISED)[None]
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


def joints_of(labels: Mapping[str, np.ndarray]) -> torch.Tensor:
    """Where the joints of labels are, metres in the camera."""
    posed = BODY(*(torch.from_numpy(labels[name]).float() for name in POSED))
    return BODY.regress(posed.vertices, EVALUATION_14)


def given(errors: list[float], status: list[str]) -> dict[str, np.ndarray]:
    """Labels of a body that lets its arm hang, seen 3 m away."""
    count = len(errors)
    return {
        "global_orient": np.tile(np.float32([3.0, 0.0, 0.2]), (count, 1)),
        "body_pose": np.zeros((count, 23, 3), np.float32),
        "betas": np.tile(BETAS.numpy(), (count, 1)),
        "transl": np.tile(np.float32([0.1, 0.2, 3.0]), (count, 1)),
        "intrinsics": np.full((count, 3, 3), 9.0, np.float32),
        "predicted_error_mm": np.array(errors, np.float32),
        "status": np.array(status, dtype="U8"),
    }


def test_the_network_stands_in_for_rejected_labels() -> None:
    labels = given([50.0, 180.0, np.nan], ["accepted", "rejected", "rejected"])
    found = consensus(BODY, Knowing(), people(3), labels, 120.0, 64)
    assert found["predicted_error_mm"].tolist() == [50.0, 120.0, 120.0]
    assert found["status"].tolist() == ["accepted", "review", "review"]
    assert (found["intrinsics"] == 9.0).all(axis=(1, 2)).tolist() == [True, False, False]
    assert found["body_pose"][1:, 15, 2].min() > 0.6
    assert (labels["body_pose"] == 0).all()


def test_the_surer_one_weighs_more_and_no_label_is_less_sure_than_the_network() -> None:
    labels = given([30.0, 120.0, 400.0], ["accepted", "review", "review"])
    found = consensus(BODY, Knowing(), people(3), labels, 120.0, 64)
    hanging, mixed = joints_of(labels), joints_of(found)
    raised = joints_of(labels | {"body_pose": np.tile(RAISED, (3, 1, 1))})
    way = (raised - hanging)[:, WRIST]
    gone = ((mixed - hanging)[:, WRIST] * way).sum(dim=-1) / way.square().sum(dim=-1)
    wanted = [30**2 / (30**2 + 120**2), 0.5, 400**2 / (400**2 + 120**2)]
    np.testing.assert_allclose(gone, wanted, atol=0.08)
    assert found["predicted_error_mm"].tolist() == [30.0, 120.0, 120.0]
    assert found["status"].tolist() == ["accepted", "review", "review"]
    root = list(EVALUATION_14.root)
    seen = [part[:, root].mean(dim=1) for part in (hanging, mixed)]
    assert (seen[0] - seen[1]).norm(dim=-1).max() < 0.01  # where the annotator saw them


def test_moments_of_other_clips_do_not_count() -> None:
    near = neighbors(np.array([0, 0, 1]), np.array([0.0, 0.1, 0.1]))
    share = np.exp(-0.5)
    np.testing.assert_allclose(near[0], [1 / (1 + share), share / (1 + share), 0.0])
    np.testing.assert_allclose(near.sum(dim=1), 1.0)
