"""Rows of large tab-separated files by byte offset, and the small YAML files that name them.

The layout is METRO's (Lin et al. 2021): `X.tsv` with `X.lineidx`, one offset a line. Offsets that
do not point at the start of a line (some writers counted letters, not bytes) are computed anew.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pchmr.data.errors import InputError
from pchmr.door import FileError, read_bytes, read_text, require_file
from pchmr.door.files import opened
from pchmr.door.limits import GIB, MIB

MOST_BYTES = 4096 * GIB
LONGEST_LINE = 96 * MIB
INDEX_BYTES = GIB
YAML_LINES = 10_000


@dataclass(frozen=True)
class Tsv:
    """A tab-separated file."""

    path: Path

    @cached_property
    def offsets(self) -> Int[np.ndarray, " lines"]:
        """Where every line starts."""
        require_file(self.path, MOST_BYTES)
        listed = self._listed()
        return self._scanned() if listed is None else listed

    def _listed(self) -> Int[np.ndarray, " lines"] | None:
        """The offsets of the index file; None where it is missing or does not fit."""
        index = self.path.with_suffix(".lineidx")
        if not index.is_file():
            return None
        try:
            words = read_bytes(index, INDEX_BYTES).split()
            found = np.array([int(word) for word in words], dtype=np.int64)
        except (ValueError, OverflowError, FileError):
            return None
        size = self.path.stat().st_size
        fits = len(found) and found[0] == 0 and (np.diff(found) > 0).all() and found[-1] < size
        return found if fits and self._starts_lines(found) else None

    def _starts_lines(self, offsets: np.ndarray) -> bool:
        """Whether a line starts at the last offsets, where an error in counting shows most."""
        with opened(self.path, MOST_BYTES) as file:
            for offset in offsets[-3:].tolist():
                file.seek(max(offset - 1, 0))
                if offset and file.read(1) != b"\n":
                    return False
        return True

    def _scanned(self) -> Int[np.ndarray, " lines"]:
        found, at = [], 0
        with opened(self.path, MOST_BYTES) as file:
            while line := file.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{self.path} holds a line of {LONGEST_LINE // MIB} MiB")
                if line.strip():
                    found.append(at)
                at += len(line)
        return np.array(found, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.offsets)

    def row(self, number: int) -> list[str]:
        """The columns of a line.

        Raises:
            InputError: There is no such line, or it is no ASCII text.
        """
        if not 0 <= number < len(self):
            raise InputError(f"{self.path} has {len(self)} lines, line {number} was asked for")
        with opened(self.path, MOST_BYTES) as file:
            file.seek(int(self.offsets[number]))
            line = file.readline(LONGEST_LINE)
        try:
            return line.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            raise InputError(f"{self.path} line {number} is no text: get the file anew") from None


def read_yaml(path: Path) -> dict[str, str | list[str]]:
    """Keys with one word or a list of words: all that these files use of YAML.

    Raises:
        InputError: It holds anything else.
    """
    found: dict[str, str | list[str]] = {}
    key = ""
    for number, line in enumerate(read_text(path, MIB).splitlines()[:YAML_LINES], start=1):
        text = line.split(" #")[0].rstrip()
        if text.strip() in ("", "---", "...") or text.lstrip().startswith("#"):
            continue
        if item := re.fullmatch(r"\s*-\s+(.+)", text):
            entry = found.get(key)
            if not isinstance(entry, list):
                raise InputError(f"{path} line {number}: a list without a key")
            entry.append(_word(item[1]))
        elif pair := re.fullmatch(r"([\w-]+)\s*:\s*(.*)", text):
            key = pair[1]
            found[key] = _value(pair[2])
        else:
            raise InputError(f"{path} line {number} is no `key: value` and no `- item`")
    return found


def _word(text: str) -> str:
    return text.strip().strip("'\"")


def _value(text: str) -> str | list[str]:
    if not text:
        return []
    if text.startswith("[") and text.endswith("]"):
        return [_word(item) for item in text[1:-1].split(",") if item.strip()]
    return _word(text)
