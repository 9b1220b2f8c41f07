"""The gather equals the sparse product, and its gradient the transposed one."""

import pytest
import torch
from scipy.sparse import random as random_sparse

from pchmr.models.upsampling import Upsampling


@pytest.fixture
def matrix():
    return random_sparse(50, 20, density=0.15, format="csr", random_state=0)


def test_equals_the_dense_product(matrix):
    dense = torch.from_numpy(matrix.toarray())
    layer = Upsampling(matrix)
    x = torch.randn(20, 4, 3, dtype=torch.float64, requires_grad=True)
    wanted = torch.einsum("fc,cbx->fbx", dense, x)
    found = layer(x)
    assert torch.allclose(found, wanted, atol=1e-6)
    weights = torch.randn_like(wanted)
    (a,) = torch.autograd.grad((wanted * weights).sum(), x)
    (b,) = torch.autograd.grad((found * weights).sum(), x)
    assert torch.allclose(a, b, atol=1e-6)


def test_traced_path_gives_the_same_numbers(matrix):
    layer = Upsampling(matrix)
    x = torch.randn(20, 2, 3)
    program = torch.export.export(layer, (x,)).module()
    assert torch.allclose(program(x), layer(x), atol=1e-6)


def test_has_no_weights(matrix):
    assert not Upsampling(matrix).state_dict()
