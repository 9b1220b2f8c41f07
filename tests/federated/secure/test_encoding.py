"""Numbers through the ring: exact sums, honest rounding, errors within their targets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pchmr.federated.secure.encoding import capacity, check_values, coders, decode, encode
from pchmr.federated.secure.messages import Group
from pchmr.federated.secure.packing import CHUNK, pack, packed_size, unpack, widths
from pchmr.federated.secure.refusal import Reason, Refusal
from pchmr.federated.secure.rehearsal import settings_of


@given(st.integers(1, 32), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_packing_is_undone(bits: int, length: int, seed: int) -> None:
    chunk = np.random.default_rng(seed).integers(0, 2**bits, length, dtype=np.uint32)
    out = memoryview(bytearray(packed_size(length, bits)))
    assert pack(chunk, bits, out) == len(out)
    found, read = unpack(out, length, bits)
    assert read == len(out) and np.array_equal(found, chunk)


def test_packing_drops_what_is_above_the_ring() -> None:
    out = memoryview(bytearray(packed_size(8, 20)))
    pack(np.full(8, 2**32 - 1, dtype=np.uint32), 20, out)
    assert set(unpack(out, 8, 20)[0]) == {2**20 - 1}
    assert widths(20) == (16, 4) and widths(32) == (32,)


def summed(settings, rows, weights, residuals=None) -> list[np.ndarray]:
    num = len(rows)
    total = np.zeros(settings.num_elements, dtype=np.uint32)
    for i, row in enumerate(rows):
        left = residuals[i] if residuals else None
        total += np.concatenate([c.copy() for c in encode(settings, num, row, weights[i], left)])
    total &= np.uint32(2**settings.bits - 1) if settings.bits < 32 else np.uint32(2**32 - 1)
    return decode(settings, num, total)


@pytest.mark.parametrize(("bits", "error"), [(20, 1e-3), (32, 1e-6)])
def test_weighted_sum_within_its_target(bits: int, error: float) -> None:
    random = np.random.default_rng(1)
    deltas = random.normal(0, 0.01, (10, 3 * CHUNK + 5)).astype(np.float32)
    weights = random.integers(20, 100, 10).astype(float)
    groups = Group("delta", deltas.shape[1], 0.05, True, 1), Group("weight", 1, 100.0, False, 2)
    settings = settings_of(*groups, bits=bits, weight_cap=100.0)
    rows = [[d, np.array([w], dtype=np.float32)] for d, w in zip(deltas, weights, strict=True)]
    found, weight = summed(settings, rows, weights)
    wanted = (deltas.clip(-0.05, 0.05) * (weights / 100)[:, None]).sum(0)
    assert np.linalg.norm(found - wanted) <= error * np.linalg.norm(wanted)
    assert weight[0] == pytest.approx(weights.sum(), rel=1e-6)


def test_extremes_do_not_wrap_around() -> None:
    for bits, num in ((20, 10), (32, 10), (16, 50), (32, 2)):
        settings = settings_of(Group("d", 100, 0.3, False, 1), bits=bits)
        for sign in (-1, 1):
            rows = [[np.full(100, sign * 9e9, dtype=np.float32)]] * num
            found = summed(settings, rows, [1.0] * num)[0]
            assert found == pytest.approx(sign * 0.3 * num, rel=1e-3)


def test_rounding_is_fair() -> None:
    settings = settings_of(Group("d", 200_000, float(capacity(20, 10)), False, 1), bits=20)
    row = [np.full(200_000, 3.3, dtype=np.float32)]
    found = np.concatenate([c.copy() for c in encode(settings, 10, row, 1.0)])
    assert set(found) == {3, 4}
    assert abs(found.mean() - 3.3) < 6 * math.sqrt(0.21 / 200_000)


def test_two_roundings_differ() -> None:
    settings = settings_of(Group("d", 1000, 1.0, False, 1))
    row = [np.full(1000, 0.123456, dtype=np.float32)]
    first, second = (next(encode(settings, 10, row, 1.0)).copy() for _ in range(2))
    assert not np.array_equal(first, second)


def test_error_feedback_sends_later_what_was_left_behind() -> None:
    settings = settings_of(Group("d", 4, 1.0, False, 1), bits=20)
    rest = [[np.zeros(4, dtype=np.float32)] for _ in range(10)]
    wanted, sent = np.zeros(4), np.zeros(4)
    for _ in range(30):
        rows = [[np.array([1e-6, 0.1, -0.3, 1.5], dtype=np.float32)]] * 10
        sent += summed(settings, rows, [1.0] * 10, rest)[0]
        wanted += 10 * rows[0][0]
    assert sent[:3] == pytest.approx(wanted[:3], abs=10 * 2 / capacity(20, 10))
    assert sent[3] == pytest.approx(300, rel=1e-3)
    assert all(np.abs(r[0]).max() <= 1 for r in rest)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    settings = settings_of(Group("d", 4, 1.0, False, 1))
    with pytest.raises(Refusal) as found:
        list(encode(settings, 10, [np.array([0, 0, value, 0], dtype=np.float32)], 1.0))
    assert found.value.reason == Reason.NOT_FINITE


@pytest.mark.parametrize(("size", "weight"), [(3, 1.0), (4, 0.0), (4, 2.0), (4, math.nan)])
def test_other_sizes_and_weights_are_refused(size: int, weight: float) -> None:
    settings = settings_of(Group("d", 4, 1.0, False, 1))
    with pytest.raises(Refusal):
        check_values(settings, [np.zeros(size, dtype=np.float32)], weight)


def test_a_ring_without_room_is_refused_with_the_cure() -> None:
    with pytest.raises(Refusal, match="more bits"):
        coders(settings_of(Group("d", 4, 1.0, False, 1), bits=10), 10)
