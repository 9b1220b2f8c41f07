"""Coordinate-wise trimmed mean, folded as replies arrive: of every entry, the `trim` smallest and
the `trim` largest values are left out, and the rest count alike.

With no more than `trim` bad replies, every entry of the mean lies between values that good clients
sent. Only the extremes so far and the sum of what fell out of them are kept, so memory is
`2 * trim + 1` vectors however many clients reply, and nothing is added that is taken away again.
Source: Yin et al. 2018, arXiv 1803.01498.
"""

import numpy as np
from jaxtyping import Float

Flat = Float[np.ndarray, " size"]
CHUNK = 65536


class TrimmedSum:
    """What is left of a sum of vectors without the extremes of every entry."""

    def __init__(self, size: int, trim: int) -> None:
        self._middle = np.zeros(size, dtype=np.float32)
        self._smallest = np.zeros((trim, size), dtype=np.float32)
        self._largest = np.zeros((trim, size), dtype=np.float32)
        self._trim, self._count = trim, 0

    def clear(self) -> None:
        """Starts anew; the memory stays."""
        self._count = 0
        self._middle[...] = 0
        self._smallest[...] = np.inf
        self._largest[...] = -np.inf

    def add(self, vector: Flat, weight: float) -> None:
        """Takes a vector in; its memory may be reused afterwards. Weights do not count."""
        for start in range(0, len(vector), CHUNK):
            piece = slice(start, start + CHUNK)
            rest = np.array(vector[piece])
            for row in self._smallest[:, piece]:
                rest = _keep(row, rest, np.minimum, np.maximum)
            if self._count < self._trim:  # only the start values fell out
                continue
            for row in self._largest[:, piece]:
                rest = _keep(row, rest, np.maximum, np.minimum)
            if self._count >= 2 * self._trim:
                self._middle[piece] += rest
        self._count += 1

    def mean(self, piece: slice, total: float) -> Flat:
        """The mean of what is left; `total`, the sum of weights, does not count.

        Raises:
            ValueError: No more than `2 * trim` vectors were added.
        """
        left = self._count - 2 * self._trim
        if left < 1:
            raise ValueError(f"{self._count} vectors, of which {2 * self._trim} are left out")
        return self._middle[piece] / np.float32(left)


def _keep(row: Flat, values: Flat, keep: np.ufunc, drop: np.ufunc) -> Flat:
    """Leaves in `row` what `keep` prefers; returns the others."""
    dropped: Flat = drop(row, values)
    keep(row, values, out=row)
    return dropped
