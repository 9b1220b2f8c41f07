"""Versions, commit and hardware that a result depends on; no host or user name."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from pchmr.door import Json

REPORTED_PACKAGES = ("pchmr", "torch", "torchvision", "timm", "flwr", "numpy", "scipy", "roma")


def environment() -> Json:
    """What `environment.json` of a run and every row of a benchmark say."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in REPORTED_PACKAGES},
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_count": os.cpu_count(),
        "threads": num_threads(),
        "commit": commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def num_threads() -> int | None:
    """Threads that compute, of which the last digits of weights depend; None where nothing does."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the source tree, with `+` where it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        call = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
