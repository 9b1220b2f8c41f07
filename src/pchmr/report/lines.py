"""Rows of `results/*.jsonl` as they are read, and which of them are out of date."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pchmr.data.errors import InputError
from pchmr.data.synthetic import current_origin
from pchmr.models.checkpoint import SHIPPED
from pchmr.report.records import worlds_of
from pchmr.runs import file_sha256

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


def outdated(worlds: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Which of the worlds are no longer the current ones, in words; empty if none."""
    apart = {name: sha for name, sha in worlds.items() if current.get(name) != sha}
    return "; ".join(f"people of domain {name} by recipe {sha[:8]}" for name, sha in apart.items())


def marked(lines: Iterable[Line]) -> list[Line]:
    """The last line of every table, cell and seed; the name of one that is out of date says why.

    It is so where its people are of another recipe than today's, or its start weights are shipped
    ones of another hash than today's.
    """
    worlds = worlds_of(current_origin())
    found = {(line.get("table"), cell_of(line), line.get("seed")): line for line in lines}
    return [_marked(line, worlds) for line in found.values()]


def _marked(line: Line, worlds: Mapping[str, str]) -> Line:
    why = outdated(worlds_of(line.get("recipe")), worlds)
    start = line.get("started_from")
    if isinstance(start, dict) and start.get("kind") == "shipped":
        name, sha = str(start.get("name")), str(start.get("sha256"))
        if _shipped_sha256(name) != sha:
            why = "; ".join(filter(None, [why, f"start weights {sha[:8]}"]))
    name = "figure" if "figure" in line else "cell"
    return line | {name: f"{line[name]} (stale: {why})"} if why else line


@cache
def _shipped_sha256(name: str) -> str | None:
    path = SHIPPED / f"{name}.safetensors"
    return file_sha256(path) if path.is_file() else None
