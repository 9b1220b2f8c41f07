"""Hashes of files and weights, and whether a shipped file is the one that was shipped."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pchmr.config import UserError
from pchmr.runs.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "shipped.json"
SHIPPED_FILES = ("*/assets/*", "*/weights/*")
BUILT = "web/assets"  # made by the build, out of pinned packages: never recorded here


class ShippedFileError(UserError):
    """A file of the package is not the one that was shipped; installing it again is the cure."""


def state_sha256(state: Mapping[str, "Tensor"]) -> str:
    """SHA-256 over the raw little-endian bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=64)
def shipped(path: Path) -> Path:
    """The path itself, once a process has seen that the file is the one that was shipped.

    A file outside the package is the user's own and is not judged.

    Raises:
        ShippedFileError: The file is damaged, missing, or not listed in `shipped.json`.
    """
    try:
        name = path.resolve().relative_to(PACKAGE).as_posix()
    except ValueError:
        return path
    try:
        recorded = json.loads(SHIPPED.read_text(encoding="utf-8")).get(name)
        same = recorded == file_sha256(path)
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise ShippedFileError(
            f"{path} is not the file that was shipped with pchmr (damaged, or made anew without "
            "`python -m pchmr.workshop.shipped`): install pchmr again"
        )
    return path


def shipped_hashes() -> dict[str, str]:
    """SHA-256 of every file that ships with the package, by its path in it."""
    files = [path for files in SHIPPED_FILES for path in PACKAGE.glob(files) if path.is_file()]
    kept = sorted(path for path in files if path.parent != PACKAGE / BUILT)
    return {path.relative_to(PACKAGE).as_posix(): file_sha256(path) for path in kept}


def record_shipped() -> Path:
    """Writes `shipped.json`, after an asset was made anew; returns its path."""
    write_bytes(SHIPPED, (json.dumps(shipped_hashes(), indent=1) + "\n").encode())
    shipped.cache_clear()
    return SHIPPED
