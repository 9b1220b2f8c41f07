"""What a comparison of runs found, in sentences: what was compared, by how much, is it chance.

Differences are paired by held-out person. Nothing is said of runs that did not record each person's
error: private ones, unfinished ones, and those of version 0.1.
"""

from collections.abc import Iterable, Sequence
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


def headline(comparison: Comparison, found: Sequence[Difference]) -> list[str]:
    """One sentence each: what was compared, what was found, is it chance, what left the device."""
    federated = [r for r in comparison.records if r.kind == FEDERATED and r.finished]
    rows = [difference for difference in found if difference.label != START_LABEL]
    if not federated or not rows:
        return []
    settings = federated[0].settings
    first = (
        f"One network was trained from the same start in two ways: centrally, with every picture "
        f"in one place, and federated over {settings.get('num_clients')} clients that keep theirs."
    )
    egress = federated[0].egress("leaves_client") or "what left was not recorded"
    last = f"What left a device in the federated run: {egress}."
    return [first, *(_told(row) for row in rows), _over_training(rows), last]


def _told(row: Difference) -> str:
    """The difference, its interval, and whether it is called chance."""
    ends = "above" if row.found.value > 0 else "below"
    low, high = row.found.interval
    said = (
        f"{row.label} ends {abs(row.found.value):.1f} mm ({abs(row.percent):.1f} %) {ends} "
        f"centralized (95 % interval {low:+.1f} to {high:+.1f} mm over {row.num_people} held-out "
        "people)"
    )
    if row.is_chance:
        return f"{said}: the interval holds zero, so this may be chance alone."
    return f"{said}: more than chance among these people."


def _over_training(rows: Sequence[Difference]) -> str:
    seeds = min(row.found.num_seeds for row in rows)
    if seeds > 1:
        return f"The intervals count chance in people and in the {seeds} seeds."
    return "One seed: chance in training itself is in no interval here."
