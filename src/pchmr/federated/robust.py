"""Ways to put updates together that a minority cannot steer, as weights of the updates.

Both work from the inner products of all pairs, so no vector is touched twice. The coordinate-wise
trimmed mean, which no weights can express, is in `trimmed.py`.
"""

import numpy as np
from jaxtyping import Float

from pchmr.federated.cohort import Table

Weights = Float[np.ndarray, " replies"]
ITERATIONS, CHANGE = 200, 1e-10
SMOOTHING = 1e-6  # of the typical length: two updates this near count as one


def squared_distances(table: Table) -> Table:
    """Of all pairs, from their products."""
    squares = np.diag(table)
    return np.maximum(squares[:, None] + squares - 2 * table, 0.0)


def geometric_median(table: Table, weights: Weights) -> Weights:
    """The weights, of sum 1, with which updates add up to their geometric median.

    Source: Pillutla et al. 2022, arXiv 1912.13445, algorithm 2 (smoothed Weiszfeld).

    Args:
        table: Inner products of the updates.
        weights: How much each counts, in any unit.
    """
    least = SMOOTHING * float(np.sqrt(np.median(np.diag(table)))) or 1.0
    shares = weights / weights.sum()
    for _ in range(ITERATIONS):
        squares = np.diag(table) - 2 * table @ shares + shares @ table @ shares
        pull = weights / np.maximum(np.sqrt(np.maximum(squares, 0.0)), least)
        before, shares = shares, pull / pull.sum()
        if np.abs(shares - before).max() < CHANGE:
            break
    return shares


def multi_krum(table: Table, num_bad: int) -> list[int]:
    """The updates that lie nearest to their neighbors: all but `num_bad`, ascending.

    Source: Blanchard et al. 2017, arXiv 1703.02757, section 4 (Multi-Krum with m = n - f).
    """
    count = len(table)
    num_near = max(1, count - num_bad - 2)
    near = np.sort(squared_distances(table), axis=1)[:, 1 : num_near + 1]
    chosen = np.argsort(near.sum(axis=1), kind="stable")[: max(1, count - num_bad)]
    return sorted(chosen.tolist())
