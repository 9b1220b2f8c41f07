"""Puts a cohort together by the rule that the settings name.

Where the rule can do with one reply after the other, each is folded as it comes: if the gate leaves
all of them whole, the sum stands, and nothing is read again. Otherwise the sum starts anew.
"""

from collections.abc import Sequence

import numpy as np

from pchmr.federated.cohort import Cohort, Reply, Values
from pchmr.federated.fold import Fold
from pchmr.federated.robust import geometric_median, multi_krum

AS_THEY_COME = ("mean", "trimmed")


class Aggregation:
    """Takes the replies of a cohort in, then folds what the gate left of them.

    Args:
        fold: Takes the mean, or the trimmed mean if it was made for it.
        cohort: Holds the replies.
        rule: `mean`, `trimmed`, `geometric-median` or `multi-krum`.
        num_bad: Replies that `multi-krum` leaves out.
    """

    def __init__(self, fold: Fold, cohort: Cohort, *, rule: str, num_bad: int) -> None:
        self._fold, self._cohort = fold, cohort
        self._rule, self._num_bad = rule, num_bad

    def begin(self) -> None:
        """Starts the next cohort."""
        self._cohort.clear()
        self._fold.clear()

    def add(self, reply: Reply) -> None:
        """Takes a reply in; its arrays may be reused afterwards."""
        if self._rule in AS_THEY_COME:
            with np.errstate(over="ignore", invalid="ignore"):  # the gate has yet to judge it
                self._fold.add(reply.update.arrays, reply.counted_samples, reply.counted_steps)
        self._cohort.add(reply)

    def finish(self, statistics: Values) -> None:
        """Leaves in the fold what the gate made of the cohort, in the order of client ids.

        Args:
            statistics: Running statistics of the global model, from which those of replies drift.
        """
        whole = all(reply.is_whole for reply in self._cohort.replies)
        if whole and self._rule in AS_THEY_COME:
            return
        self._fold.clear()
        good = self._cohort.good
        for reply, share in zip(good, self._shares(good), strict=True):
            if share != 0.0:
                arrays = self._cohort.arrays(reply)
                _shorten(arrays, reply.scale, statistics)
                self._fold.add(arrays, reply.counted_samples, reply.counted_steps, share)

    def _shares(self, good: list[Reply]) -> Sequence[float | None]:
        """The weight of each reply; None is what the algorithm gives it, 0 leaves it out."""
        if self._rule in AS_THEY_COME or not good:
            return [None] * len(good)
        table = self._cohort.products(good)
        if self._rule == "multi-krum":
            chosen = multi_krum(table, self._num_bad)
            return [None if place in chosen else 0.0 for place in range(len(good))]
        counts = np.array([reply.counted_samples for reply in good], dtype=np.float64)
        return geometric_median(table, counts).tolist()


def _shorten(
    arrays: dict[str, np.ndarray], scale: dict[str, float], statistics: np.ndarray
) -> None:
    for name, factor in scale.items():
        array = arrays[name]
        if name == "buffers":
            array -= statistics
        array *= np.float32(factor)
        if name == "buffers":
            array += statistics
