"""What rows of a comparison say about each other: gaps closed, paired differences, budgets.

Raises on no row: what it does not hold is absent.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import stats

from pchmr.report.crossed import Estimate, difference, gap, relative_difference
from pchmr.results import (
    AVERAGED,
    BEFORE,
    CENTRALIZED,
    CONTROL,
    FEDERATED,
    CurvePoint,
    Number,
    ResultRow,
)

MPJPE, GAP = "mpjpe_mm", "gap_closed_percent"
TARGET_SHARE = 0.7  # of the gap that centralized training closes
BySeed = Mapping[int | None, ResultRow]


def error_of(row: ResultRow | None) -> Number | None:
    """MPJPE of a row in mm."""
    return None if row is None else row.scores.get(MPJPE)


def people_error(row: ResultRow | None) -> Number | None:
    """Mean over people of their MPJPE in mm; over pictures where a row does not tell of people."""
    if row is None or not row.people_mm:
        return error_of(row)
    return statistics.fmean(row.people_mm)


def start_of(row: ResultRow) -> str | None:
    """Hash of the weights that a row's run started from."""
    return row.started_from.sha256 if row.started_from else None


def gap_closed(row: ResultRow, before: ResultRow | None, central: ResultRow | None) -> float | None:
    """(before - this) / (before - centralized) in percent, over the same people; None where one is
    unknown.
    """
    if before is None or start_of(row) != start_of(before) or not _same_people(row, before):
        return None
    start, end, here = people_error(before), people_error(central), people_error(row)
    if start is None or end is None or here is None or start == end:
        return None
    return 100 * (start - here) / (start - end)


def _same_people(row: ResultRow, other: ResultRow) -> bool:
    return len(row.people_mm) == len(other.people_mm)


def with_gaps(rows: list[ResultRow]) -> list[ResultRow]:
    """The rows of one table, with the share of the gap closed among the scores.

    Held against centralized training of the same seed; a table without comparison stays as it is.
    """
    before = next((row for row in rows if row.kind == BEFORE), None)
    central = of_id(rows, CENTRALIZED)
    made = []
    for row in rows:
        gap = None
        if row.kind in (FEDERATED, AVERAGED, CONTROL):
            gap = gap_closed(row, before, central.get(row.seed))
        made.append(row if gap is None else replace(row, scores={**row.scores, GAP: gap}))
    return made


def of_id(rows: Iterable[ResultRow], name: str) -> BySeed:
    """Rows of an id by seed."""
    return {row.seed: row for row in rows if row.id == name}


def first_of_id(rows: Iterable[ResultRow], name: str) -> ResultRow | None:
    """The first row of an id."""
    return next(iter(of_id(rows, name).values()), None)


def table_of(members: BySeed) -> np.ndarray | None:
    """MPJPE of every held-out person, seeds by persons; None where a row does not tell them."""
    rows = [members[seed].people_mm for seed in sorted(members, key=str)]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    return np.array(rows, dtype=np.float64)


def difference_percent(ours: BySeed, theirs: BySeed) -> Estimate | None:
    """How much larger our MPJPE is than theirs, in percent of theirs."""
    return _held_against(ours, theirs, relative_difference)


def difference_mm(ours: BySeed, theirs: BySeed) -> Estimate | None:
    """How much larger our MPJPE is than theirs."""
    return _held_against(ours, theirs, difference)


def _held_against(
    ours: BySeed, theirs: BySeed, statistic: Callable[..., Estimate]
) -> Estimate | None:
    a, b = table_of(ours), table_of(theirs)
    if a is None or b is None or a.shape[1] != b.shape[1] or a.shape[1] < 2 or not b.mean():
        return None
    return statistic(a, b)


def gap_of(ours: BySeed, before: ResultRow | None, central: BySeed) -> Estimate | None:
    """Share of the gap that a row's runs close, in percent; None where it is not known."""
    a, c = table_of(ours), table_of(central)
    b = None if before is None else table_of({0: before})
    if a is None or b is None or c is None or not a.shape[1] == b.shape[1] == c.shape[1]:
        return None
    if (
        before is None
        or any(start_of(row) != start_of(before) for row in ours.values())
        or b.mean() == c.mean()
    ):
        return None
    return gap(b, a, c)


def skew_correlation(rows: Iterable[ResultRow]) -> tuple[float, int] | None:
    """Spearman's rank correlation of a run's MPJPE with its mean label skew, and how many runs."""
    pairs = [
        (row.mean_skew, error)
        for row in rows
        if row.mean_skew is not None and (error := error_of(row)) is not None
    ]
    if len({skew for skew, _ in pairs}) < 3:
        return None
    return _spearman([skew for skew, _ in pairs], [error for _, error in pairs]), len(pairs)


def _spearman(first: Sequence[Number], second: Sequence[Number]) -> float:
    """Correlation of the ranks, ties at their mean."""
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def client_correlation(rows: Iterable[ResultRow]) -> float | None:
    """Spearman's rank correlation of clients' errors with their own skew, mean over runs."""
    found = []
    for row in rows:
        errors, skews = row.clients_mm, row.client_skew
        if len(errors) == len(skews) > 2 and len(set(skews)) > 1:
            found.append(_spearman(errors, skews))
    return statistics.fmean(found) if found else None


def curve_of(row: ResultRow, before: ResultRow | None) -> list[CurvePoint]:
    """The points of a row's curve, from the start on where it is known."""
    known, start = list(row.curve), error_of(before)
    if start is None or before is None or start_of(before) != start_of(row):
        return known
    moved = known[0].num_bytes if known and row.kind == CENTRALIZED else 0.0  # all at once
    return [CurvePoint(0.0, 0.0, moved, start), *known]


def reached(
    row: ResultRow, before: ResultRow | None, central: ResultRow | None
) -> CurvePoint | None:
    """Where the curve first is at the target; None if never.

    The target lies at 70 % of what centralized training gained. Between two points of the curve
    the way is taken to be straight.
    """
    start, end = error_of(before), error_of(central)
    points = curve_of(row, before)
    if start is None or end is None or not points:
        return None
    target = start - TARGET_SHARE * (start - end)
    for earlier, later in pairwise(points):
        if later.mpjpe_mm <= target < earlier.mpjpe_mm:
            share = (earlier.mpjpe_mm - target) / (earlier.mpjpe_mm - later.mpjpe_mm)
            return CurvePoint(*(a + share * (b - a) for a, b in zip(earlier, later, strict=True)))
    return None


def error_at(row: ResultRow, before: ResultRow | None, num_bytes: Number) -> float | None:
    """MPJPE when so many bytes had moved, the way between points taken to be straight; None where
    the curve does not tell.
    """
    for earlier, later in pairwise(curve_of(row, before)):
        moved = later.num_bytes - earlier.num_bytes
        if moved > 0 and earlier.num_bytes <= num_bytes <= later.num_bytes:
            share = (num_bytes - earlier.num_bytes) / moved
            return earlier.mpjpe_mm + share * (later.mpjpe_mm - earlier.mpjpe_mm)
    return None
