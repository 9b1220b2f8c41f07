"""What rows of a comparison say about each other: gaps closed, paired differences, budgets.

Works on the lines of `results/*.jsonl` as they are read, and raises on none of them: what a line
does not hold is absent.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from pchmr.report.lines import Line
from pchmr.report.records import number

BEFORE, CENTRALIZED = "before", "centralized"
MPJPE, GAP = "mpjpe_mm", "gap_closed_percent"
TARGET_SHARE = 0.7  # of the gap that centralized training closes
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, how many seeds it rests on, and what it is over."""

    mean: float
    low: float
    high: float
    num_seeds: int
    over: str

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def error_of(line: Line | None) -> float | None:
    """MPJPE of a line in mm."""
    return number(((line or {}).get("scores") or {}).get(MPJPE))


def start_of(line: Line) -> Any:
    """What a line's run started from."""
    return (line.get("started_from") or {}).get("sha256")


def gap_closed(line: Line, before: Line | None, central: Line | None) -> float | None:
    """(before - this) / (before - centralized) in percent; None where one is unknown."""
    if before is None or start_of(line) != start_of(before):
        return None
    start, end, here = error_of(before), error_of(central), error_of(line)
    if start is None or end is None or here is None or start == end:
        return None
    return 100 * (start - here) / (start - end)


def with_gaps(lines: list[Line]) -> list[Line]:
    """The lines of one table, with the share of the gap closed among the scores.

    Held against centralized training of the same seed; a table without comparison stays as it is.
    """
    before = next((line for line in lines if line.get("kind") == BEFORE), None)
    central = of_cell(lines, CENTRALIZED)
    made = []
    for line in lines:
        gap = None
        if line.get("kind") in ("federated", "averaged"):
            gap = gap_closed(line, before, central.get(line.get("seed")))
        scores = {} if gap is None else {"scores": {**line["scores"], GAP: gap}}
        made.append(line | scores)
    return made


def of_cell(lines: list[Line], cell: str) -> dict[Any, Line]:
    """Lines of a cell by seed."""
    return {line.get("seed"): line for line in lines if line.get("cell") == cell}


def difference_percent(ours: dict[Any, Line], theirs: dict[Any, Line]) -> Interval | None:
    """How much larger our MPJPE is than theirs, in percent of theirs, paired by seed and person.

    The interval is over held-out people (their mean over the seeds), or over seeds where there are
    several and that one is wider.
    """
    seeds = [s for s in ours if s in theirs and _people(ours[s]) and _people(theirs[s])]
    pairs = [(np.array(_people(ours[s])), np.array(_people(theirs[s]))) for s in seeds]
    if not pairs or len({len(side) for pair in pairs for side in pair}) != 1:
        return None
    scale = float(np.mean([b for _, b in pairs]))
    apart = 100 * np.stack([a - b for a, b in pairs]) / scale
    found = [_interval(apart.mean(axis=0), len(seeds), "people")]
    if len(seeds) > 1:
        found.append(_interval(apart.mean(axis=1), len(seeds), "seeds"))
    return max((f for f in found if f is not None), key=lambda i: i.high - i.low, default=None)


def _people(line: Line) -> list[float]:
    held = line.get("people_mm")
    return held if isinstance(held, list) else []


def _interval(values: np.ndarray, num_seeds: int, over: str) -> Interval | None:
    if len(values) < 2:
        return None
    mean, error = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half, num_seeds, over)


def skew_correlation(lines: Iterable[Line]) -> tuple[float, int] | None:
    """Spearman's rank correlation of a run's MPJPE with its mean label skew, and how many runs."""
    pairs = [
        (float(line["mean_skew"]), error)
        for line in lines
        if line.get("mean_skew") is not None and (error := error_of(line)) is not None
    ]
    if len({skew for skew, _ in pairs}) < 3:
        return None
    return _spearman([skew for skew, _ in pairs], [error for _, error in pairs]), len(pairs)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of the ranks, ties at their mean."""
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def client_correlation(lines: Iterable[Line]) -> float | None:
    """Spearman's rank correlation of clients' errors with their own skew, mean over runs."""
    found = []
    for line in lines:
        errors, skews = line.get("clients_mm") or [], line.get("client_skew") or []
        if len(errors) == len(skews) > 2 and len(set(skews)) > 1:
            found.append(_spearman(errors, skews))
    return statistics.fmean(found) if found else None


def curve_of(line: Line, before: Line | None) -> list[list[float]]:
    """(rounds or epochs, images, bytes, MPJPE), from the start on where it is known."""
    points = [[number(v) for v in p] for p in line.get("curve") or [] if len(p) == 4]
    known = [[v for v in p if v is not None] for p in points if None not in p]
    start = error_of(before)
    if start is None or before is None or start_of(before) != start_of(line):
        return known
    moved = known[0][2] if known and line.get("kind") == CENTRALIZED else 0.0  # all at once
    return [[0.0, 0.0, moved, start], *known]


def reached(line: Line, before: Line | None, central: Line | None) -> list[float] | None:
    """Rounds, images and bytes at which the curve first is at the target; None if never.

    The target lies at 70 % of what centralized training gained. Between two points of the curve
    the way is taken to be straight.
    """
    start, end = error_of(before), error_of(central)
    points = curve_of(line, before)
    if start is None or end is None or not points:
        return None
    target = start - TARGET_SHARE * (start - end)
    for earlier, later in pairwise(points):
        if later[3] <= target < earlier[3]:
            share = (earlier[3] - target) / (earlier[3] - later[3])
            return [a + share * (b - a) for a, b in zip(earlier[:3], later[:3], strict=True)]
    return None
