"""The browser is the one of the device's tests; pages are opened in it as a person would."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "device"))

pytest.register_assert_rewrite("readable")
