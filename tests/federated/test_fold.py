"""Sums: right, independent of memory reuse, and exact where one client is alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from pchmr.config import ServerOptions
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.fold import CHUNK, Fold, WeightedSum
from pchmr.federated.trimmed import TrimmedSum

SIZE = CHUNK + 777
STEP = ALGORITHMS["fedavg"].step(1, ServerOptions())


def noise_of(size: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=size)).astype(np.float32)


def test_weighted_sum_against_float64():
    vectors, weights = [noise_of(SIZE, seed) for seed in range(5)], [3.0, 100.0, 7.5, 1.0, 20.0]
    total = WeightedSum(SIZE)
    for _ in range(2):  # memory is reused between rounds
        total.clear()
        lent = np.empty(SIZE, dtype=np.float32)
        for vector, weight in zip(vectors, weights, strict=True):
            lent[...] = vector  # and by the sender
            total.add(lent, weight)
        exact = sum(w * v.astype(np.float64) for v, w in zip(vectors, weights, strict=True))
        np.testing.assert_allclose(total.values * total.unit, exact, rtol=1e-5, atol=2e-4)


def apply_one(start: np.ndarray, delta: np.ndarray, num_samples: int) -> np.ndarray:
    fold = Fold(ALGORITHMS["fedavg"], len(start), 0)
    fold.clear()
    fold.add({"delta": delta}, num_samples, 1)
    moved = start.copy()
    assert fold.apply(moved, np.empty(0, np.float32), {}, STEP, 1)
    return moved


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    start_scale=st.integers(-6, 3),
    local_scale=st.integers(-6, 3),
    num_samples=st.integers(1, 10**6),
)
def test_one_client_comes_back_within_one_ulp(seed, start_scale, local_scale, num_samples):
    """Whatever the magnitudes: one unit in the last place of the larger of the two weights."""
    start = noise_of(500, seed, 10.0**start_scale)
    local = noise_of(500, seed + 1, 10.0**local_scale)
    moved = apply_one(start, local - start, num_samples)
    ulp = np.spacing(np.maximum(np.abs(start), np.abs(local)))
    assert (np.abs(moved.astype(np.float64) - local) <= ulp).all()


def test_one_client_that_moves_a_little_comes_back_exactly_nearly_always():
    start = noise_of(20_000, 0, 0.05)
    local = start + noise_of(20_000, 1, 1e-3)
    moved = apply_one(start, local - start, 17)
    assert (moved == local).mean() > 0.99
    near = np.abs(local) > 1e-4
    assert (np.abs(moved - local)[near] <= np.spacing(np.abs(local[near]))).all()


def test_statistics_of_one_client_are_its_own():
    fold = Fold(ALGORITHMS["fedavg"], 1, 3)
    fold.clear()
    fold.add({"delta": np.zeros(1, np.float32), "buffers": np.float32([1 / 3, 2, 5])}, 7, 1)
    buffers = np.zeros(3, np.float32)
    fold.apply(np.zeros(1, np.float32), buffers, {}, STEP, 1)
    np.testing.assert_array_equal(buffers, np.float32([1 / 3, 2, 5]))


def test_overflow_is_told():
    fold = Fold(ALGORITHMS["fedavg"], 2, 0)
    fold.clear()
    fold.add({"delta": np.float32([3e38, 0])}, 1, 1)
    assert not fold.apply(np.float32([3e38, 0]), np.empty(0, np.float32), {}, STEP, 1)


@settings(deadline=None, max_examples=30)
@given(num_vectors=st.integers(3, 12), trim=st.integers(1, 5), seed=st.integers(0, 1000))
def test_trimmed_sum_against_scipy(num_vectors, trim, seed):
    total = TrimmedSum(40, trim)
    lent = np.empty(40, dtype=np.float32)
    vectors = np.stack([noise_of(40, seed + i) for i in range(num_vectors)])
    vectors[:2] = vectors[2]  # values may be equal
    for _ in range(2):  # memory is reused between rounds
        total.clear()
        for number, vector in enumerate(vectors):
            lent[...] = vector  # and by the sender
            total.add(lent, 1.0 + number)
    if num_vectors <= 2 * trim:
        with pytest.raises(ValueError, match="are left out"):
            total.mean(slice(None), 1.0)
        return
    expected = trim_mean(vectors.astype(np.float64), (trim + 0.5) / num_vectors)
    np.testing.assert_allclose(total.mean(slice(None), 1.0), expected, atol=1e-6)


@pytest.mark.parametrize("bad", [1e30, -1e30, 0.0])
def test_trimmed_mean_lies_between_good_values_whatever_the_bad_send(bad):
    good = [noise_of(200, seed) for seed in range(7)]
    total = TrimmedSum(200, 3)
    total.clear()
    for vector in [np.full(200, bad, np.float32)] * 3 + good:
        total.add(vector, 1.0)
    mean = total.mean(slice(None), 1.0)
    assert (mean >= np.min(good, axis=0)).all()
    assert (mean <= np.max(good, axis=0)).all()


def test_trimmed_sum_works_in_pieces():
    vectors = [noise_of(SIZE, seed) for seed in range(5)]
    total = TrimmedSum(SIZE, 2)
    total.clear()
    for vector in vectors:
        total.add(vector, 1.0)
    np.testing.assert_array_equal(total.mean(slice(None), 5.0), np.median(vectors, axis=0))


def test_trimmed_statistics():
    fold = Fold(ALGORITHMS["fedavg"], 1, 2, trim=1)
    fold.clear()
    for value in (1, 2, 900):
        fold.add({"delta": np.zeros(1, np.float32), "buffers": np.float32([value, -value])}, 7, 1)
    buffers = np.zeros(2, np.float32)
    fold.apply(np.zeros(1, np.float32), buffers, {}, STEP, 1)
    np.testing.assert_array_equal(buffers, np.float32([2, -2]))
