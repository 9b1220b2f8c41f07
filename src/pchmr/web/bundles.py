"""Where the pages' sources and bundles lie, and whether the bundles are those of these sources.

Standard library only: the build of the wheel imports it before anything is installed.
"""

import hashlib
import json
import os
from pathlib import Path

WEB = Path(__file__).resolve().parent
SOURCES, ASSETS = WEB / "pages", WEB / "assets"
BUILT = "built.json"
LOCKS = ("package.json", "package-lock.json")


def cache_folder() -> Path:
    """The user's cache: $PCHMR_CACHE, else ~/.cache/pchmr."""
    return Path(os.environ.get("PCHMR_CACHE") or Path.home() / ".cache" / "pchmr").expanduser()


def sources_sha256() -> str:
    """Hash of what the bundles are made of: our modules, and the lock file."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.rglob("*.js"), *(SOURCES / lock for lock in LOCKS)]):
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_current(assets: Path) -> bool:
    """Whether a folder holds the bundles of these sources, as they were built."""
    try:
        built = json.loads((assets / BUILT).read_text(encoding="utf-8"))
        if built["sources_sha256"] != sources_sha256():
            return False
        hashes = {name: about["sha256"] for name, about in built["files"].items()}
        return bool(hashes) and all(file_sha256(assets / n) == h for n, h in hashes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
