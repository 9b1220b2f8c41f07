"""What a comparison of runs found, in sentences: what was compared, by how much, is it chance.

Differences are paired by held-out person. Nothing is said of runs that did not record each person's
error: private ones, unfinished ones, and those of version 0.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pchmr.report.crossed import Estimate, difference
from pchmr.report.records import RunRecord, number_list
from pchmr.report.tables import Comparison, variant_labels
from pchmr.results import CENTRALIZED, FEDERATED

BEFORE, AFTER = "before_people_mm", "after_people_mm"
START_LABEL = "Before"


@dataclass(frozen=True)
class Difference:
    """How far a row ends above the reference, in mm of MPJPE, and over how many people.

    Attributes:
        label: Of the row.
        found: Mean and 95 % interval, mm; negative where the row is better.
        percent: The mean, in percent of the reference.
        num_people: Held-out people that the interval is over.
    """

    label: str
    found: Estimate
    percent: float
    num_people: int

    @property
    def is_chance(self) -> bool:
        """Whether the interval holds zero."""
        low, high = self.found.interval
        return low <= 0 <= high


def differences(comparison: Comparison) -> list[Difference]:
    """The start and every other trained row against centralized training, paired by person."""
    records = [record for record in comparison.records if record.finished]
    labels = variant_labels(comparison.records)
    reference = _errors((r for r in records if r.kind == CENTRALIZED), AFTER)
    if reference is None:
        return []
    found = [_difference(START_LABEL, _errors(records, BEFORE), reference)]
    for variant in dict.fromkeys(record.variant for record in records):
        members = [record for record in records if record.variant == variant]
        if members[0].kind != CENTRALIZED:
            found.append(_difference(labels[variant], _errors(members, AFTER), reference))
    return [difference for difference in found if difference is not None]


def _errors(records: Iterable[RunRecord], name: str) -> np.ndarray | None:
    """Errors of (runs, people); None where a run has none, or they are not of the same people."""
    rows = [number_list(record.summary.get(name)) for record in records]
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        return None
    return np.array(rows)


def _difference(label: str, ours: np.ndarray | None, theirs: np.ndarray) -> Difference | None:
    if ours is None or ours.shape[1] != theirs.shape[1] or ours.shape[1] < 2 or not theirs.mean():
        return None
    found = difference(ours, theirs)
    return Difference(label, found, 100 * found.value / float(theirs.mean()), ours.shape[1])


@dataclass(frozen=True)
class Sentence:
    """A question in a few words, and its answer."""

    about: str
    words: str


def headline(comparison: Comparison, found: Sequence[Difference]) -> list[Sentence]:
    """A sentence each: what was compared, what was found, is it chance, what left the device."""
    federated = [r for r in comparison.records if r.kind == FEDERATED and r.finished]
    rows = [difference for difference in found if difference.label != START_LABEL]
    if not federated or not rows:
        return []
    labels = variant_labels(comparison.records)
    return [
        Sentence("What was compared", _compared(federated)),
        *(Sentence("What was found", _told(row)) for row in rows),
        Sentence("Is it chance", _chance(rows)),
        Sentence("What left the device", _left(federated, labels)),
    ]


def _compared(federated: Sequence[RunRecord]) -> str:
    clients = " or ".join(dict.fromkeys(str(r.settings.get("num_clients")) for r in federated))
    return (
        "One network from one start, trained centrally, with every picture in one place, and "
        f"federated over {clients} clients that keep theirs."
    )


def _told(row: Difference) -> str:
    """The difference and its interval."""
    ends = "above" if row.found.value > 0 else "below"
    low, high = row.found.interval
    zero = ", which holds zero" if row.is_chance else ""
    return (
        f"“{row.label}” ends {abs(row.found.value):.1f} mm ({abs(row.percent):.1f} %) {ends} "
        f"centralized, 95 % interval {low:+.1f} to {high:+.1f} mm over {row.num_people} held-out "
        f"people{zero}."
    )


def _chance(rows: Sequence[Difference]) -> str:
    """Which differences may be chance alone, and what no interval counts."""
    maybe = [row.label for row in rows if row.is_chance]
    sure = [row.label for row in rows if not row.is_chance]
    parts = [f"it may be for {_listed(maybe)}"] if maybe else []
    parts += [f"more than chance among these people for {_listed(sure)}"] if sure else []
    seeds = min(row.found.num_seeds for row in rows)
    counted = (
        f"the intervals count chance in people and in the {seeds} seeds"
        if seeds > 1
        else "one seed: chance in training itself is in no interval here"
    )
    said = "; ".join([*parts, counted])
    return f"{said[:1].upper()}{said[1:]}."


def _left(federated: Sequence[RunRecord], labels: Mapping[str, str]) -> str:
    """What each federated run recorded of what leaves a client, without the names of its parts."""
    told: dict[str, list[str]] = {}
    for record in federated:
        left = (record.egress("leaves_client") or "not recorded").partition(" (")[0]
        told.setdefault(left, []).append(labels[record.variant])
    parts = [f"{left} ({_listed(dict.fromkeys(names))})" for left, names in told.items()]
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}; the table below says what is in them."


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"“{name}”" for name in names)
