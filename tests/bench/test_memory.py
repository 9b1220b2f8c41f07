"""A process tells its own peak, not that of whoever started it."""

import subprocess
import sys

import pytest

from pchmr.bench.memory import STATUS, forget_peak, peak_bytes

MB = 1e6


def test_a_peak_is_that_of_the_process_alone() -> None:
    before = forget_peak()
    held = bytearray(600 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    assert peak_bytes() - before > 500 * MB
    code = "from pchmr.bench.memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not STATUS.exists():
        pytest.skip("this system tells no peak of its own")
    assert int(done.stdout) < peak_bytes() - 400 * MB
    del held
