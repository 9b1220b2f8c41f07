"""The watched Chromium of `pchmr bench live`; tests skip where there is none."""

import pytest

from pchmr.bench.live import chromium
from pchmr.bench.live.chromium import (
    ALLOWED,
    DENIED,
    FAKE_CAMERA,
    browsing,
    read_traffic,
    state,
    wait_for,
)
from pchmr.config import SettingError

__all__ = [
    "ALLOWED",
    "DENIED",
    "FAKE_CAMERA",
    "browsing",
    "need_chromium",
    "read_traffic",
    "state",
    "wait_for",
]


def need_chromium() -> str:
    """Path of the browser."""
    try:
        return chromium.need_chromium()
    except SettingError as error:
        pytest.skip(str(error))
