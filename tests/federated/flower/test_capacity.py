"""Memory is what a process holds now: one that was larger before hides nothing."""

import numpy as np
import pytest

from pchmr.federated.flower.capacity import measure_register, resident_bytes


@pytest.mark.skipif(resident_bytes() == 0, reason="this system does not tell what a process holds")
def test_what_a_process_holds_now_grows_and_shrinks(tmp_path) -> None:
    before = resident_bytes()
    held = np.ones(8_000_000)
    assert resident_bytes() - before > 40e6
    del held
    assert resident_bytes() - before < 20e6
    found = measure_register(50, str(tmp_path / "nodes.db"))
    assert found["memory_mb"] != 0 and found["database_mb"] > 0 and found["calls_a_second"] > 0
