"""Memory is what a process holds now: one that was larger before hides nothing."""

from mmap import mmap

import pytest

from pchmr.federated.flower.capacity import measure_register, resident_bytes


@pytest.mark.skipif(resident_bytes() == 0, reason="this system does not tell what a process holds")
def test_what_a_process_holds_now_grows_and_shrinks(tmp_path) -> None:
    before = resident_bytes()
    with mmap(-1, 64_000_000) as held:  # no memory that the allocator had kept
        held.write(b"1" * len(held))
        assert resident_bytes() - before > 40e6
    assert resident_bytes() - before < 20e6
    found = measure_register(50, str(tmp_path / "nodes.db"))
    assert found["database_mb"] > 0 and found["calls_a_second"] > 0
