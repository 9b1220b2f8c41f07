"""Muon: orthogonal steps on matrices, AdamW on the rest, and a state that survives."""

import torch

from pchmr.muon import LARGEST_SIDE, Muon, is_hidden_matrix, orthogonalized


def test_singular_values_move_to_about_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=generator)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_orthogonalization_keeps_the_singular_vectors() -> None:
    u, _, v = torch.linalg.svd(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    given = u @ torch.diag(torch.linspace(0.5, 2.0, 6)) @ v
    inside = u.T @ orthogonalized(given) @ v.T
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4
    assert inside.diagonal().min() > 0


def test_vectors_and_large_matrices_step_like_adamw() -> None:
    generator = torch.Generator().manual_seed(2)
    side = LARGEST_SIDE + 1
    for shape in ((7,), (1, 5), (side, side)):
        weight = torch.randn(shape, generator=generator)
        assert not is_hidden_matrix(weight)
        ours, theirs = (torch.nn.Parameter(weight.clone()) for _ in range(2))
        muon = Muon([ours], lr=0.01, weight_decay=0.1)
        adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
        for _ in range(3):
            grad = torch.randn(shape, generator=generator)
            ours.grad, theirs.grad = grad, grad.clone()
            muon.step()
            adamw.step()
        torch.testing.assert_close(ours, theirs)


def test_state_goes_on_where_it_was_saved() -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(4, 3, 3, 3, generator=generator)
    grads = [torch.randn(start.shape, generator=generator) for _ in range(4)]

    def run(weight: torch.nn.Parameter, optimizer: Muon, steps: list[torch.Tensor]) -> None:
        for grad in steps:
            weight.grad = grad
            optimizer.step()

    whole = torch.nn.Parameter(start.clone())
    run(whole, Muon([whole], lr=0.1), grads)
    half = torch.nn.Parameter(start.clone())
    first = Muon([half], lr=0.1)
    run(half, first, grads[:2])
    second = Muon([half], lr=0.1)
    second.load_state_dict(first.state_dict())
    run(half, second, grads[2:])
    assert torch.equal(whole, half)
