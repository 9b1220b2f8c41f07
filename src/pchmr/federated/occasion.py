"""When a device takes part: the owner's hours, and enough battery unless it is being charged."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SUPPLIES = Path("/sys/class/power_supply")
DAY = 24


@dataclass(frozen=True)
class Battery:
    """How full it is, in percent, and whether it is being charged."""

    percent: int
    is_charged: bool


def now() -> int:
    """The hour of the day by the device's clock."""
    return time.localtime().tm_hour


def battery(folder: Path = SUPPLIES) -> Battery | None:
    """The device's battery; None where the system shows none (Linux alone does)."""
    for place in sorted(folder.glob("*")):
        with suppress(OSError, ValueError):
            if (place / "type").read_text().strip() == "Battery":
                state = (place / "status").read_text().strip()
                percent = int((place / "capacity").read_text())
                return Battery(percent, state in ("Charging", "Full", "Not charging"))
    return None


def within(hours: Sequence[int] | None, hour: int) -> bool:
    """Whether an hour lies in the owner's, which may span midnight; a list of another kind is none.

    Args:
        hours: First and last hour, the last one not included; None for all.
        hour: Of the day.
    """
    if hours is None:
        return True
    if len(hours) != 2:
        return False
    first, last = hours
    return (hour - first) % DAY < ((last - first) % DAY or DAY)


def lasts(least: int | None, found: Battery | None) -> bool:
    """Whether there is enough battery; a device without one always has."""
    return least is None or found is None or found.is_charged or found.percent >= least
