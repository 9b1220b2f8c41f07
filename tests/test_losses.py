"""Losses against the published code's values on rule-made inputs, and on cases worked by hand."""

import json
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from pchmr.geometry import project_weak_perspective, rotvec_to_rotmat
from pchmr.losses.terms import (
    edge_loss,
    itp_loss,
    joint_loss,
    keypoint_loss,
    normal_loss,
    occupancy,
    smpl_loss,
    vertex_loss,
)

HAS = torch.tensor([True, False, True])


def drawn(name: str, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Tensor:
    """The goldens' rule: uniform numbers from a seed made of the name."""
    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(0, 1, size=shape)
    return torch.from_numpy((low + (high - low) * u).astype(np.float32))


@pytest.fixture
def golden(shared):
    return json.loads((shared / "goldens" / "losses.json").read_text())


def confidence(name: str) -> Tensor:
    return (drawn(name, (3, 14)) > -0.3).float()


def close(value: Tensor, wanted: float) -> None:
    assert value.item() == pytest.approx(wanted, rel=1e-6)


def test_keypoints_match_the_published_code(golden):
    truth = drawn("gt2d", (3, 14, 3))[..., :2]
    value = keypoint_loss(drawn("pred2d", (3, 14, 2)), truth, confidence("conf2d"), HAS, paper=True)
    close(value, golden["fm/keypoint_2d_loss"])


def test_joints_match_the_published_code(golden):
    truth = drawn("gt3d", (3, 14, 4))[..., :3]
    value = joint_loss(drawn("pred3d", (3, 14, 3)), truth, confidence("conf3d"), HAS, paper=True)
    close(value, golden["fm/keypoint_3d_loss"])


def test_vertices_match_the_published_code(golden):
    value = vertex_loss(drawn("predv", (3, 1723, 3)), drawn("gtv", (3, 1723, 3)), HAS)
    close(value, golden["fm/vertices_loss_1723"])


def test_smpl_parameters_match_the_published_code(golden):
    rotmat = rotvec_to_rotmat(drawn("pose", (3, 72)).view(3, 24, 3))
    value = smpl_loss(
        drawn("pred_rotmat", (3, 24, 3, 3)), drawn("pred_betas", (3, 10)),
        rotmat, drawn("betas", (3, 10)), HAS,
    )  # fmt: skip
    close(value, golden["fm/smpl_param_loss"])
    first = torch.tensor(golden["rodrigues_first"]).view(3, 3)
    assert torch.allclose(rotmat[0, 0], first, atol=1e-6)


def test_projection_matches_the_published_code(golden):
    projected = project_weak_perspective(drawn("pred3d", (3, 14, 3)), drawn("cam", (3, 3)))
    assert torch.allclose(projected, torch.tensor(golden["ortho_proj"]), rtol=1e-6, atol=1e-7)


def test_pooling_supervision_matches_the_published_code(golden):
    heat = drawn("heat", (3, 39, 49), -3, 3).softmax(dim=-1)
    mesh = drawn("mesh2d", (3, 6890, 2), -0.6, 0.45)
    close(itp_loss(heat, mesh, HAS, paper=True), golden["tore/itp_loss"])
    assert occupancy(mesh, 7)[0].tolist() == golden["tore/itp_mask_gt_sample0"]


def synthetic_faces() -> np.ndarray:
    f = np.random.RandomState(zlib.crc32(b"faces")).randint(0, 6890, (13776, 3))
    first = (f[:, 0] + 1 + f[:, 1] % 6888) % 6890
    clash = (f[:, 2] == f[:, 0]) | (f[:, 2] == first)
    return np.stack([f[:, 0], first, np.where(clash, (f[:, 0] + first + 3) % 6890, f[:, 2])], 1)


def test_surface_terms_match_the_published_code(golden):
    faces = torch.from_numpy(synthetic_faces())
    predicted, truth = drawn("predvf", (3, 6890, 3)), drawn("gtvf", (3, 6890, 3))
    close(normal_loss(predicted, truth, faces, HAS), golden["tore/normal_vector_loss_6890"])
    edges = torch.cat([faces[:, [0, 1]], faces[:, [0, 2]], faces[:, [1, 2]]])
    value = edge_loss(predicted, truth, edges, HAS, epsilon=1e-6)
    close(value, golden["tore/edge_length_loss_6890"])
