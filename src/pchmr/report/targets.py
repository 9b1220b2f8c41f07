"""Rows by cell, and whether a cell keeps its target: the mean over its seeds is judged."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from pchmr.report.records import SCORES
from pchmr.results import VALUE, Number, ResultRow, Target

SMALLEST = 1e-9


@dataclass(frozen=True)
class Verdict:
    """A target and what was found.

    Attributes:
        row: One of the cell.
        target: What was promised.
        mean: Over seeds.
        is_met: Whether that keeps the promise.
    """

    row: ResultRow
    target: Target
    mean: float
    is_met: bool

    @property
    def distance(self) -> float:
        """How far the mean lies from the bound, as a share of the bound."""
        bound = float(self.target.bound or 0)
        return abs(self.mean - bound) / max(abs(bound), SMALLEST)


def cells_of(rows: Iterable[ResultRow]) -> list[list[ResultRow]]:
    """Rows of one id together, in the order in which ids first come."""
    cells: dict[str, list[ResultRow]] = {}
    for row in rows:
        cells.setdefault(row.id, []).append(row)
    return list(cells.values())


def in_order(names: Iterable[str]) -> list[str]:
    """Names of scores in reading order."""
    known = [*SCORES, VALUE]
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def judged(cell: list[ResultRow]) -> Verdict | None:
    """Whether a cell keeps its target; None where nothing is promised or known."""
    row = next((row for row in cell if row.target), None)
    values = _figures(cell)
    if row is None or row.target is None or not values:
        return None
    mean = statistics.fmean(values)
    is_met = row.target.judge(mean)
    return None if is_met is None else Verdict(row, row.target, mean, is_met)


def verdicts_of(rows: Iterable[ResultRow]) -> list[Verdict]:
    """Of every cell that has a target."""
    return [verdict for cell in cells_of(rows) if (verdict := judged(cell))]


def _figures(cell: list[ResultRow]) -> list[Number]:
    """The one figure of a cell over its seeds, else its first score."""
    names = {name for row in cell for name in row.measures}
    name = VALUE if VALUE in names else next(iter(in_order(names)), None)
    return [row.measures[name] for row in cell if name in row.measures]
