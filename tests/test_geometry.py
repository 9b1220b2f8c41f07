import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pchmr.geometry import (
    project_pinhole,
    project_weak_perspective,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
    similarity_align,
)


def test_rotations_agree_with_scipy_and_return() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    vectors[0] = 0
    matrices = rotvec_to_rotmat(torch.from_numpy(vectors))
    assert np.allclose(matrices.numpy(), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    back = rotvec_to_rotmat(rotmat_to_rotvec(matrices))
    assert torch.allclose(back, matrices, atol=1e-9)


def test_zero_rotation_has_a_finite_gradient() -> None:
    vector = torch.zeros(2, 3, requires_grad=True)
    rotvec_to_rotmat(vector).sum().backward()
    assert vector.grad is not None and torch.isfinite(vector.grad).all()


def test_weak_perspective_scales_after_shifting() -> None:
    points = torch.tensor([[[1.0, 2.0, 9.0]]])
    camera = torch.tensor([[2.0, 0.5, -1.0]])
    assert project_weak_perspective(points, camera).tolist() == [[[3.0, 2.0]]]


def test_pinhole_known_pixel() -> None:
    intrinsics = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    assert project_pinhole(torch.tensor([[1.0, -1.0, 2.0]]), intrinsics).tolist() == [
        [100.0, -10.0]
    ]


def test_alignment_recovers_a_similarity() -> None:
    target = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 6, 3)))
    turn = torch.from_numpy(Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix())
    assert torch.allclose(similarity_align(0.3 * target @ turn.T - 2, target), target, atol=1e-12)
