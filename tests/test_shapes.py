"""Tests of the package run with its shapes checked; see `conftest.py` for how often."""

import jaxtyping
import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError

from pchmr.geometry import similarity_align


def test_wrong_shapes_are_refused_at_first_and_now_and_then() -> None:
    @jaxtyping.jaxtyped(typechecker=beartype)
    def total(points: Float[np.ndarray, "points 3"]) -> float:
        return float(points.sum())

    refused = 0
    for _ in range(1000):
        try:
            total(np.zeros((2, 2)))
        except TypeCheckError:
            refused += 1
    assert refused == 200 + 16
    assert total(np.ones((2, 3))) == 6


def test_functions_of_the_package_are_checked() -> None:
    def wrong() -> None:
        similarity_align(torch.zeros(4, 2, 3), torch.zeros(4, 5, 3))

    for _ in range(50):
        try:
            wrong()
        except TypeCheckError:
            return
        except RuntimeError:
            continue
    pytest.fail("fifty calls with wrong shapes, and none was refused")
