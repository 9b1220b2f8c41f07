"""Rows of `results/*.jsonl` as they are read."""

import json
from pathlib import Path
from typing import Any

from pchmr.data.errors import InputError

Line = dict[str, Any]


def lines_of(path: Path) -> list[Line]:
    """The rows of a JSONL file.

    Raises:
        InputError: A line is no JSON object with a figure or cell.
    """
    lines = []
    for place, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict) or cell_of(line) is None:
            raise InputError(
                f"{path} line {place} is no JSON object with a `figure` or `cell`: mend that line"
            )
        lines.append(line)
    return lines


def cell_of(line: Line) -> str | None:
    """What a row is about."""
    name = line.get("figure", line.get("cell"))
    return None if name is None else str(name)
