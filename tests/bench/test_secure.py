"""The figures of secure aggregation: sizes are exact, sums within their targets."""

import numpy as np
import pytest

from pchmr.bench.secure import measure_client, measure_ours, measure_stock, measure_unmasking
from pchmr.federated.flower.stock import stock_round


@pytest.mark.parametrize(("bits", "upload", "error"), [(20, 0.63, 1e-3), (32, 1.01, 1e-6)])
def test_figures_of_a_small_vector(bits: int, upload: float, error: float) -> None:
    assert 0 < measure_client(1, bits)["upload_ratio"] <= upload
    assert measure_unmasking(1, bits, 3)["error"] <= error


def test_flowers_own_protocol_and_ours_sum_the_same_vector() -> None:
    stock, ours = measure_stock(1), measure_ours(1, 20)
    assert stock["upload_ratio"] == pytest.approx(2.0, abs=0.01) and 0 < stock["error"] < 1e-2
    assert ours["upload_ratio"] <= 0.64 and ours["error"] <= 1e-3


def test_flowers_own_protocol_recovers_from_a_client_that_is_lost() -> None:
    values = np.random.default_rng(0).standard_normal(2000).astype(np.float32) * np.float32(1e-3)
    assert stock_round(values, 5, num_lost=1).error < 1e-2
