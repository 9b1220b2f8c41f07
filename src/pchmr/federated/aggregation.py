"""Folds a judged cohort by the rule that the settings name."""

from collections.abc import Sequence

import numpy as np

from pchmr.federated.cohort import Cohort, Reply, products
from pchmr.federated.fold import Fold
from pchmr.federated.robust import geometric_median, multi_krum


def fold_cohort(
    fold: Fold, cohort: Cohort, statistics: np.ndarray, *, rule: str, num_bad: int
) -> None:
    """Adds the good replies of a cohort to a cleared fold, in the order of client ids.

    Args:
        fold: Takes the mean, or the trimmed mean if it was made for it.
        cohort: Judged by the gate; arrays that the gate shortens are changed in place.
        statistics: Running statistics of the global model, from which those of replies drift.
        rule: `mean`, `trimmed`, `geometric-median` or `multi-krum`.
        num_bad: Replies that `multi-krum` leaves out.
    """
    good = cohort.good
    for reply in good:
        _shorten(reply, statistics)
    fold.clear()
    for reply, share in zip(good, _shares(good, rule, num_bad), strict=True):
        if share != 0.0:
            fold.add(reply.update.arrays, reply.counted_samples, reply.counted_steps, share)


def _shorten(reply: Reply, statistics: np.ndarray) -> None:
    for name, scale in reply.scale.items():
        array = reply.update.arrays[name]
        if name == "buffers":
            array -= statistics
        array *= np.float32(scale)
        if name == "buffers":
            array += statistics


def _shares(good: list[Reply], rule: str, num_bad: int) -> Sequence[float | None]:
    """The weight of each reply; None is what the algorithm gives it, 0 leaves it out."""
    if rule in ("mean", "trimmed") or not good:
        return [None] * len(good)
    table = products([reply.update.arrays["delta"] for reply in good])
    if rule == "multi-krum":
        chosen = multi_krum(table, num_bad)
        return [None if place in chosen else 0.0 for place in range(len(good))]
    counts = np.array([reply.counted_samples for reply in good], dtype=np.float64)
    return geometric_median(table, counts).tolist()
