"""The figures of secure aggregation: sizes are exact, sums within their targets."""

import pytest

from pchmr.bench.secure import measure_client, measure_unmasking


@pytest.mark.parametrize(("bits", "upload", "error"), [(20, 0.63, 1e-3), (32, 1.01, 1e-6)])
def test_figures_of_a_small_vector(bits: int, upload: float, error: float) -> None:
    assert 0 < measure_client(1, bits)["upload_ratio"] <= upload
    assert measure_unmasking(1, bits, 3)["error"] <= error
