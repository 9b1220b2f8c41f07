"""Folders and files that are for their owner alone, a device's and a server's alike."""

import json
from collections.abc import Sequence
from pathlib import Path

from pchmr.config import require
from pchmr.runs import is_private, write_bytes


def require_closed(path: Path) -> Path:
    """Refuses a secret that others could read.

    Raises:
        SettingError: They could, or it is missing.
    """
    require(path.is_file(), f"{path} is missing: `pchmr deploy init` makes it")
    require(is_private(path), f"{path} is open to others: chmod 600 {path}")
    return path


def require_folder(path: Path, files: Sequence[str], missing: str) -> Path:
    """Refuses a folder that is none of ours, or that others could read.

    Args:
        path: The folder.
        files: In it, each closed to others; by the first it is known.
        missing: What to say where that one is not there.

    Raises:
        SettingError: It is none, or it or a file is open to others.
    """
    require((path / files[0]).is_file(), missing)
    require(is_private(path), f"{path} is open to others: chmod 700 {path}")
    for name in files:
        require_closed(path / name)
    return path


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file for the owner alone."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode(), private=True)
