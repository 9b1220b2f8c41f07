"""Rows of `results/*.jsonl` as they are read, and which of them are out of date."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pchmr.report.editions import Edition
from pchmr.report.files import read_lines
from pchmr.results import ResultRow


@dataclass(frozen=True)
class RowsFile:
    """The rows of one JSONL file, and how many of its lines are none."""

    name: str
    rows: list[ResultRow]
    num_unreadable: int = 0


def rows_in(folder: Path, name: str) -> RowsFile:
    """The rows of `name.jsonl` in the folder, none where it is missing."""
    found = [ResultRow.from_json(raw) for raw in read_lines(folder, f"{name}.jsonl")]
    rows = [row for row in found if row is not None]
    return RowsFile(name, rows, len(found) - len(rows))


def outdated(worlds: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Which of the worlds are no longer the current ones, in words; empty if none."""
    apart = {name: sha for name, sha in worlds.items() if current.get(name) != sha}
    return "; ".join(f"people of domain {name} by recipe {sha[:8]}" for name, sha in apart.items())


def marked(rows: Iterable[ResultRow], edition: Edition) -> list[ResultRow]:
    """The last row of every table, id and seed; one that is out of date says why, and has an id
    and a kind by which nobody finds it.

    It is so where its people are of another recipe than the edition's, or its start weights were
    shipped once and are no more, or are earlier ones and the row is of no comparison.
    """
    found = {(row.table, row.id, row.seed): row for row in rows}
    return [_marked(row, edition) for row in found.values()]


def _marked(row: ResultRow, edition: Edition) -> ResultRow:
    why = outdated(row.worlds, edition.worlds)
    start = row.started_from
    if start is not None and start.kind == "shipped":
        sha = str(start.sha256)
        if sha not in edition.starts_of(str(start.name), earlier=bool(row.config)):
            why = "; ".join(filter(None, [why, f"start weights {sha[:8]}"]))
    if not why:
        return row
    said = f"(stale: {why})"
    return replace(
        row, id=f"{row.id} {said}", label=f"{row.label} {said}", kind="stale", contest=None
    )
