"""Contests: of the gap to centralized training, how much the best row of so many clients closes."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from pchmr.recipes.rows import EVERYONE, of_clients
from pchmr.report.claims import LEAST_SEEDS
from pchmr.report.comparison import GAP, BySeed
from pchmr.results import VALIDATION, Number, ResultRow

# Share of the gap, in percent, that FastMETRO is to close with tuned FedAvg or better, by contest.
GAP_TARGETS = {EVERYONE: 90.0, of_clients(100): 85.0, of_clients(1000): 75.0}


def closed_by(row: ResultRow) -> Number | None:
    """Percent of the gap that a row closes, where it is known."""
    return row.scores.get(GAP)


@dataclass(frozen=True)
class Best:
    """The best row of a contest: percent of the gap, mean over its seeds."""

    closed: float
    num_seeds: int
    id: str
    label: str


def best_of(rows: Iterable[ResultRow], contest: str) -> Best | None:
    """The best row of a contest; None where nobody tried.

    Chosen on validation people where all rows tell of them, else by the gap itself; rows with too
    few seeds for a verdict only where there is no other.
    """
    rivals: dict[str, dict[int | None, ResultRow]] = {}
    for row in rows:
        if row.contest == contest and closed_by(row) is not None:
            rivals.setdefault(row.id, {})[row.seed] = row
    found = [
        Best(statistics.fmean(gaps), len(gaps), name, members[next(iter(members))].label)
        for name, members in rivals.items()
        if (gaps := [gap for row in members.values() if (gap := closed_by(row)) is not None])
    ]
    enough = min(LEAST_SEEDS, max((best.num_seeds for best in found), default=0))
    found = [best for best in found if best.num_seeds >= enough]
    chosen = {best.id: _validation(rivals[best.id]) for best in found}
    if found and None not in chosen.values():
        return min(found, key=lambda best: chosen[best.id] or 0.0)
    return max(found, key=lambda best: (best.closed, best.num_seeds), default=None)


def _validation(members: BySeed) -> float | None:
    """Mean error on validation people, where every row tells it."""
    known = [v for row in members.values() if (v := row.scores.get(VALIDATION)) is not None]
    return statistics.fmean(known) if len(known) == len(members) else None
