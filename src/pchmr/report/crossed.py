"""Errors of estimates whose data are crossed: the same persons, scored by runs of many seeds.

One estimand throughout: the mean over persons and seeds, of which both are samples. A statistic is
a function of the arms' means; to first order it is a weighted sum of them, and its variance is that
over persons (who are the same in every arm) plus that over seeds, of every arm by itself: runs of
two arms share no more than their start weights. Where two arms share cohorts and partitions, their
seeds are `paired`. The interaction of person and seed is counted in both parts, which is on the
safe side. Degrees of freedom are Satterthwaite's (1946), so that three seeds weigh as three.

With one seed a difference is the paired t test over persons, with one person Welch's t test over
seeds. Nothing here knows a row of a result.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
Table = Float[np.ndarray, "_ persons"]
Statistic = Callable[..., Float[np.ndarray, " draws"]]


@dataclass(frozen=True)
class Estimate:
    """A statistic, its standard error and what these rest on.

    Attributes:
        value: The statistic at the means.
        error: Standard error.
        freedom: Degrees of freedom.
        num_seeds: Of the arm with the fewest, arms without training left out.
    """

    value: float
    error: float
    freedom: float
    num_seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:+.1f} [{low:+.1f}, {high:+.1f}]"

    @property
    def over(self) -> str:
        """What the interval knows the chance of."""
        return "people" if self.num_seeds < 2 else "people and seeds"

    def p_above(self, bound: float) -> float:
        """One-sided p value of the claim that the truth lies above a bound."""
        return float(stats.t.sf(self._distance(bound), self.freedom))

    def p_below(self, bound: float) -> float:
        """One-sided p value of the claim that the truth lies below a bound."""
        return float(stats.t.cdf(self._distance(bound), self.freedom))

    def p_within(self, low: float, high: float) -> float:
        """p value of the claim that the truth lies between two bounds: two one-sided tests.

        Source: Schuirmann 1987; with bounds at plus and minus a margin it is a test of equivalence.
        """
        return max(self.p_above(low), self.p_below(high))

    def p_outside(self, low: float, high: float) -> float:
        """p value of the claim that the truth does not lie between two bounds."""
        return min(1.0, 2 * min(self.p_below(low), self.p_above(high)))

    def _distance(self, bound: float) -> float:
        if self.error == 0:
            return math.copysign(math.inf, self.value - bound)
        return (self.value - bound) / self.error


def linear(
    value: float,
    tables: Sequence[Table],
    slopes: Sequence[float],
    *,
    paired: bool = False,
    untrained: Sequence[int] = (),
) -> Estimate:
    """The estimate of a statistic from its slopes by the arms' means.

    Args:
        value: The statistic at the means.
        tables: Errors of each arm, seeds by persons; persons in one order.
        slopes: By how much the statistic grows with each arm's mean.
        paired: Whether seeds of the arms belong together, one by one.
        untrained: Arms that no seed changes, by place; they have one row.
    """
    arms = list(zip(tables, slopes, strict=True))
    trained = [arm for place, arm in enumerate(arms) if place not in untrained]
    by_person = sum(slope * table.mean(axis=0) for table, slope in arms)
    parts = [_part(np.asarray(by_person))]
    if paired:
        by_seed = sum(slope * table.mean(axis=1) for table, slope in trained)
        parts.append(_part(np.asarray(by_seed)))
    else:
        parts += [_part(slope * table.mean(axis=1)) for table, slope in trained]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts if freedom)
    freedom = variance**2 / below if below else math.inf
    seeds = min((len(table) for table, _ in trained), default=1)
    return Estimate(value, math.sqrt(variance), freedom, seeds)


def _part(values: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of some values, and its degrees of freedom; none of a single one."""
    count = len(values)
    return (float(values.var(ddof=1)) / count, count - 1) if count > 1 else (0.0, 0)


def difference(ours: Table, theirs: Table, *, paired: bool = False) -> Estimate:
    """How much larger our mean is than theirs, in their unit."""
    value = float(ours.mean() - theirs.mean())
    return linear(value, (ours, theirs), (1.0, -1.0), paired=paired)


def relative_difference(ours: Table, theirs: Table, *, paired: bool = False) -> Estimate:
    """How much larger our mean is than theirs, in percent of theirs."""
    above, below = float(ours.mean()), float(theirs.mean())
    slopes = 100 / below, -100 * above / below**2
    return linear(100 * (above / below - 1), (ours, theirs), slopes, paired=paired)


def gap(before: Table, ours: Table, central: Table) -> Estimate:
    """Share of what `central` gained over `before` that ours gained, in percent."""
    start, here, end = (float(table.mean()) for table in (before, ours, central))
    room = start - end
    closed = 100 * (start - here) / room
    slopes = (100 - closed) / room, -100 / room, closed / room
    return linear(closed, (before, ours, central), slopes, untrained=(0,))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for a family of claims (Holm 1979), in their order."""
    count, highest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def bootstrapped(
    tables: Sequence[Table], statistic: Statistic, *, num: int, seed: int = 0
) -> Float[np.ndarray, " num"]:
    """Draws of a statistic of the arms' means, persons and seeds drawn anew with replacement.

    Persons are drawn once for all arms, seeds for each arm (Owen 2007, the pigeonhole bootstrap).
    Deviations of seeds are stretched by sqrt(n / (n - 1)), so that their variance is unbiased. What
    `linear` says of a ratio is held against this.
    """
    rng = np.random.default_rng(seed)
    persons = _weights(rng, num, tables[0].shape[1])
    means = [
        np.einsum("bs,sp,bp->b", _weights(rng, num, len(table)), table, persons) for table in tables
    ]
    return np.asarray(statistic(*means))


def _weights(rng: np.random.Generator, num: int, count: int) -> Float[np.ndarray, "num count"]:
    """How much each of `count` things counts in each draw."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=num) / count
    stretch = math.sqrt(count / (count - 1)) if count > 1 else 0.0
    return 1 / count + (drawn - 1 / count) * stretch
