"""The one way in which a report reads what lies in a folder, and where it may write.

Regular files of bounded size inside the folder, no links; JSON of bounded depth, its texts such as
a page can hold. What is anything else is absent: nothing here raises on the content of a folder.
"""

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

MOST_BYTES = 64 * 2**20
MOST_FILES = 1000
MOST_DEPTH = 40
MARK_BYTES = 4096
KEPT = "\n\t"


def inside(folder: Path, path: Path) -> bool:
    """Whether a path below the folder is reached without a link."""
    try:
        return path.resolve() == folder.resolve() / path.relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


def read_bytes(folder: Path, name: str, most: int = MOST_BYTES) -> bytes | None:
    """The content of a regular file of the folder; None where there is none or it is too large."""
    path = folder / name
    if not inside(folder, path):
        return None
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        )
        with open(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode) or about.st_size > most:
                return None
            return file.read(most)
    except (OSError, ValueError):
        return None


def read_json(folder: Path, name: str) -> object:
    """The content of a JSON file; None where it cannot be had."""
    return parsed(read_bytes(folder, name))


def read_lines(folder: Path, name: str) -> list[object]:
    """The values of a JSONL file, None for a line that cannot be read."""
    content = read_bytes(folder, name) or b""
    return [parsed(line) for line in content.splitlines() if line.strip()]


def parsed(content: bytes | None) -> object:
    """The value that JSON holds; None where it is damaged or too deep."""
    if content is None:
        return None
    try:
        return _plain(json.loads(content.decode("utf-8", "replace")), MOST_DEPTH)
    except (ValueError, RecursionError):
        return None


def _plain(value: object, depth: int) -> object:
    """The value with texts that a page can hold.

    Raises:
        ValueError: It is too deep.
    """
    if depth < 0:
        raise ValueError("too deep")
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {shown(name): _plain(item, depth - 1) for name, item in value.items()}
    return value


def shown(words: str) -> str:
    """Words without what UTF-8 or XML cannot hold: half characters and control signs."""
    if words.isprintable():
        return words
    whole = words.encode("utf-8", "replace").decode()
    return "".join(sign for sign in whole if sign.isprintable() or sign in KEPT)


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Regular files of the folder that match, sorted, without links."""
    return [path for path in _matches(folder, pattern) if path.is_file()]


def folders_of(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Folders below the folder that match, sorted by pattern, without links."""
    return [path for p in patterns for path in _matches(folder, p) if path.is_dir()]


def _matches(folder: Path, pattern: str) -> list[Path]:
    try:
        found = sorted(folder.glob(pattern))[:MOST_FILES]
    except (OSError, ValueError):
        return []
    return [path for path in found if inside(folder, path)]


def is_file(folder: Path, name: str) -> bool:
    """Whether the folder has a regular file of that name, and no link to one."""
    path = folder / name
    return inside(folder, path) and path.is_file()


def may_write(path: Path, mark: str) -> bool:
    """Whether nothing stands at a path, or a page of ours, which has the mark near its begin."""
    if not os.path.lexists(path):
        return True
    held = read_bytes(path.parent, path.name)
    return held is not None and mark.encode() in held[:MARK_BYTES]
