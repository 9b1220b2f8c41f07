"""The figures of secure aggregation: sizes are exact, sums within their targets."""

import pytest

from pchmr.bench.secure import measure_client, measure_stock, measure_unmasking


@pytest.mark.parametrize(("bits", "upload", "error"), [(20, 0.63, 1e-3), (32, 1.01, 1e-6)])
def test_figures_of_a_small_vector(bits: int, upload: float, error: float) -> None:
    assert 0 < measure_client(1, bits)["upload_ratio"] <= upload
    assert measure_unmasking(1, bits, 3)["error"] <= error


def test_flowers_own_protocol_stands_beside() -> None:
    found = measure_stock(1)
    assert found["upload_ratio"] == pytest.approx(2.0, abs=0.01) and 0 < found["error"] < 1e-2
