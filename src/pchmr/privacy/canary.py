"""What a noised run gives away of a client that tries to be seen: an empirical epsilon.

A canary client sends a vector of full length in a direction of its own. How far the sum points that
way, against how far it points into directions that nobody sent, tells what an attacker could decide
(one-shot auditing, Andrew et al. 2023, arXiv 2302.03098). The figure is a lower bound of what the
mechanism loses to this attacker; an account that lies below it would be wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
HALVINGS = 60


@dataclass(frozen=True)
class Canaries:
    """Directions that clients send, and others that nobody sends.

    Attributes:
        sent: Unit vectors, one a client.
        unsent: Unit vectors.
    """

    sent: Float[np.ndarray, "clients size"]
    unsent: Float[np.ndarray, "others size"]

    @classmethod
    def drawn(cls, num_clients: int, num_others: int, size: int, seed: int) -> "Canaries":
        """Random directions."""
        rng = np.random.default_rng(seed)
        made = rng.standard_normal((num_clients + num_others, size)).astype(np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return cls(made[:num_clients], made[num_clients:])

    def seen(self, change: Float[np.ndarray, " size"]) -> tuple[np.ndarray, np.ndarray]:
        """How far a change of the model points to each direction: of clients, and of nobody."""
        return self.sent @ change, self.unsent @ change


def empirical_epsilon(present: Sequence[float], absent: Sequence[float], delta: float) -> float:
    """The least epsilon that the two samples allow, at a confidence of 95 %.

    Both are taken as normal, and the means are moved together by their standard errors. The
    decision is the best threshold.

    Args:
        present: Statistic of directions that were sent.
        absent: Of directions that were not.
        delta: Exception of the guarantee.
    """
    one, other = np.asarray(present, dtype=float), np.asarray(absent, dtype=float)
    error = math.hypot(one.std(ddof=1) / len(one) ** 0.5, other.std(ddof=1) / len(other) ** 0.5)
    apart = one.mean() - other.mean() - stats.norm.ppf(CONFIDENCE) * error
    if apart <= 0:
        return 0.0
    spread = math.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
    if spread == 0:
        return math.inf
    return gaussian_epsilon(apart / spread, delta)


def gaussian_epsilon(distance: float, delta: float) -> float:
    """Epsilon of telling two normal laws of unit variance apart (Balle and Wang 2018, theorem 8).

    Args:
        distance: Of their means.
        delta: Exception.
    """

    def excess(epsilon: float) -> float:
        half, ratio = distance / 2, epsilon / distance
        first = stats.norm.cdf(half - ratio)
        second = stats.norm.logcdf(-half - ratio)
        return float(first - math.exp(min(epsilon + second, 700.0)))

    low, high = 0.0, 1.0
    while excess(high) > delta:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > delta else (low, middle)
    return high
