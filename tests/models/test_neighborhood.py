"""Patched attention equals dense masked attention, forward and backward."""

import numpy as np
import pytest
import torch

from pchmr.models.neighborhood import Neighborhood, attend, patches


def grid_adjacency(rows: int, columns: int) -> np.ndarray:
    y, x = np.divmod(np.arange(rows * columns), columns)
    near = np.abs(y[:, None] - y) + np.abs(x[:, None] - x)
    return near <= 1


@pytest.mark.parametrize("num_leading", [0, 14])
def test_equals_dense_attention(num_leading):
    neighborhood = Neighborhood(grid_adjacency(12, 11), num_leading)
    assert neighborhood.is_sparse
    generator = torch.Generator().manual_seed(0)
    shape = (num_leading + 132, 3, 2, 8)
    q, k, v = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(3))
    dense = attend(q, k, v, neighborhood.allowed)
    patched = neighborhood(q, k, v)
    assert torch.allclose(patched, dense, atol=1e-6)
    weights = torch.randn(dense.shape, generator=generator)
    wanted = torch.autograd.grad((dense * weights).sum(), (q, k, v))
    found = torch.autograd.grad((patched * weights).sum(), (q, k, v))
    for a, b in zip(wanted, found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_closed_pair_has_no_influence():
    neighborhood = Neighborhood(grid_adjacency(12, 11), 0)
    q = torch.randn(132, 1, 1, 4)
    value = torch.zeros(132, 1, 1, 4)
    value[131] = 1
    assert neighborhood(q, q, value)[0].abs().max() == 0
    assert neighborhood(q, q, value)[130].abs().max() > 0


def test_crowded_tables_stay_dense():
    assert not Neighborhood(np.ones((40, 40), dtype=bool), 14).is_sparse


def test_every_vertex_is_in_one_patch():
    parts = patches(grid_adjacency(9, 7), np.arange(63), size=16)
    assert sorted(np.concatenate(parts)) == list(range(63))
    assert max(map(len, parts)) <= 16
