"""Rotations of the SMPL head: the published formula, with a gradient that stays finite."""

import torch

from pchmr.models.smpl_head import SingleSafeBatchNorm, nearest_rotation


def published(matrix):
    u, _, vt = torch.linalg.svd(matrix)
    product = u @ vt
    return product * torch.linalg.det(product).detach()[..., None, None]


def test_equals_the_published_formula_and_gradient():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(6, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(6, 3, 3, generator=generator, dtype=torch.float64)
    wanted, found = published(matrix), nearest_rotation(matrix)
    assert torch.allclose(found, wanted)
    (a,) = torch.autograd.grad((wanted * weights).sum(), matrix)
    (b,) = torch.autograd.grad((found * weights).sum(), matrix)
    assert torch.allclose(a, b)


def test_reflections_turn_into_rotations():
    reflected = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    assert torch.allclose(nearest_rotation(reflected), torch.diag(torch.tensor([-1.0, -1.0, 1.0])))


def test_gradient_is_finite_at_equal_singular_values():
    matrix = torch.eye(3).requires_grad_()
    nearest_rotation(matrix)[0, 1].backward()
    wanted = torch.tensor([[0.0, 0.5, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(matrix.grad, wanted)


def test_one_item_trains_on_running_statistics():
    norm = SingleSafeBatchNorm(4).train()
    x = torch.randn(1, 4)
    assert torch.allclose(norm(x), x, atol=1e-4)
    assert norm.num_batches_tracked == 0
    norm(torch.randn(5, 4))
    assert norm.num_batches_tracked == 1
