"""Contests: of the gap to centralized training, how much the best row of so many clients closes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pchmr.recipes.rows import BEFORE, CENTRALIZED, EVERYONE, of_clients
from pchmr.report.claims import LEAST_SEEDS
from pchmr.report.comparison import BySeed, first_of_id, gap_of, of_id
from pchmr.report.crossed import Estimate
from pchmr.results import VALIDATION, ResultRow

# Share of the gap, in percent, that FastMETRO is to close with tuned FedAvg or better, by contest.
GAP_TARGETS = {EVERYONE: 90.0, of_clients(100): 85.0, of_clients(1000): 75.0}


@dataclass(frozen=True)
class Best:
    """The best row of a contest, and how many percent of the gap it closes."""

    id: str
    label: str
    closed: Estimate


def best_of(rows: Sequence[ResultRow], contest: str) -> Best | None:
    """The best row of a contest; None where nobody tried.

    Chosen on validation people where all rows tell of them, else by the gap itself; rows with too
    few seeds for a verdict only where there is no other.
    """
    before, central = first_of_id(rows, BEFORE), of_id(rows, CENTRALIZED)
    rivals = {row.id: of_id(rows, row.id) for row in rows if row.contest == contest}
    found = [
        Best(name, next(iter(members.values())).label, closed)
        for name, members in rivals.items()
        if (closed := gap_of(members, before, central)) is not None
    ]
    enough = min(LEAST_SEEDS, max((best.closed.num_seeds for best in found), default=0))
    found = [best for best in found if best.closed.num_seeds >= enough]
    chosen = {best.id: _validation(rivals[best.id]) for best in found}
    if found and None not in chosen.values():
        return min(found, key=lambda best: chosen[best.id] or 0.0)
    return max(found, key=lambda best: best.closed.value, default=None)


def _validation(members: BySeed) -> float | None:
    """Mean error on validation people, where every row tells it."""
    known = [v for row in members.values() if (v := row.scores.get(VALIDATION)) is not None]
    return statistics.fmean(known) if len(known) == len(members) else None
