"""The most memory that this process ever held.

`ru_maxrss` is not it: on Linux a process that another one starts inherits the other's peak, so a
small process seems as large as whoever started it.
"""

import contextlib
import resource
import sys
from pathlib import Path

STATUS, PEAK = Path("/proc/self/status"), "VmHWM:"
RESET, PEAK_ALONE = Path("/proc/self/clear_refs"), "5"


def peak_bytes() -> int:
    """Bytes held at the most, since the start or since `forget_peak`."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(PEAK))


def forget_peak() -> int:
    """Starts a new peak where the system can, and returns `peak_bytes` of then."""
    with contextlib.suppress(OSError):
        RESET.write_text(PEAK_ALONE)
    return peak_bytes()
