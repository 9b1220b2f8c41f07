"""A figure of an audit with its chance and ceiling lines, and intervals over people.

Nothing here knows an attack.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

DRAWS, LEVEL = 1000, 0.95
FALSE_POSITIVES = 0.01


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What an attack reached.

    Attributes:
        attack: Key of the attack.
        name: Of the figure within the attack.
        value: Reached.
        interval: 95 %, from drawing people anew.
        chance: What guessing reaches.
        ceiling: What an attacker reaches who knows all that this view could ever tell; None where
            nobody knows.
        unit: Of the value.
        n: People, pictures or clients that the figure is over.
        means: What it is, in a sentence.
    """

    attack: str
    name: str
    value: float
    interval: tuple[float, float]
    chance: float
    ceiling: float | None
    unit: str
    n: int
    means: str

    def plain(self) -> dict[str, object]:
        """In plain values."""
        return asdict(self)


def interval_of(
    statistic: Callable[[Shaped[np.ndarray, " draws"]], float], count: int, seed: int
) -> tuple[float, float]:
    """The 95 % interval of a statistic over people: percentiles over people drawn anew.

    Args:
        statistic: Of some people, by their numbers.
        count: People there are.
        seed: Draws them.
    """
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(count, size=count)) for _ in range(DRAWS)]
    known = [value for value in found if np.isfinite(value)]
    if not known:
        return (float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def area_under_curve(scores: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"]) -> float:
    """Probability that a member's score is above a non-member's; ties count half."""
    members, others = scores[is_member], scores[~is_member]
    if not len(members) or not len(others):
        return float("nan")
    order = np.sort(others)
    below = np.searchsorted(order, members, "left")
    upto = np.searchsorted(order, members, "right")
    return float((below + upto).mean() / 2 / len(others))


def true_positives(
    scores: Float[np.ndarray, " n"],
    is_member: Bool[np.ndarray, " n"],
    rate: float = FALSE_POSITIVES,
) -> float:
    """Share of members above the score that at most `rate` of the non-members exceed."""
    members, others = scores[is_member], np.sort(scores[~is_member])
    if not len(members) or not len(others):
        return float("nan")
    allowed = int(rate * len(others))
    return float((members > others[len(others) - 1 - allowed]).mean())


def explained(
    truth: Float[np.ndarray, "people betas"], guess: Float[np.ndarray, "people betas"]
) -> float:
    """R2 over all coefficients: 1 is exact, 0 what the mean of everybody explains."""
    left = np.square(truth - guess).sum()
    return float(1 - left / np.square(truth - truth.mean(0)).sum())
