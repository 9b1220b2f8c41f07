"""Which of 150 shapes has the target? From what an attack says of an update, or of a sum.

What is said of a person is taken as a linear map of the true shape plus normal noise, both measured
on people that are not attacked. A sum says the mean of what would be said of its members; the
others in it are noise for the one who is looked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pchmr.privacy.audit.figures import Figure, explained, interval_of

NUM_DRAWS = 20  # cohorts of a target
SMALL = 1e-4
Shapes = Float[np.ndarray, "_ betas"]
Table = Float[np.ndarray, "betas betas"]


@dataclass(frozen=True)
class Channel:
    """How a shape turns into what is said of it.

    Attributes:
        slope: Said, per unit of the truth.
        noise: Covariance of what is said beyond that.
        center: Mean shape.
        said: Mean of what is said.
        spread: Covariance of shapes.
    """

    slope: Table
    noise: Table
    center: Float[np.ndarray, " betas"]
    said: Float[np.ndarray, " betas"]
    spread: Table

    @classmethod
    def of(cls, truth: Shapes, said: Shapes) -> "Channel":
        """Measured on people of known shape."""
        center, mean = truth.mean(0), said.mean(0)
        x, y = truth - center, said - mean
        slope = np.linalg.solve(x.T @ x + SMALL * np.eye(x.shape[1]), x.T @ y).T
        left = y - x @ slope.T
        count = len(truth)
        noise = left.T @ left / count + SMALL * np.eye(y.shape[1])
        return cls(slope, noise, center, mean, x.T @ x / count)

    @classmethod
    def exact(cls, truth: Shapes) -> "Channel":
        """Of an attacker who is told the very shape: the ceiling."""
        size = truth.shape[1]
        center = truth.mean(0)
        spread = np.cov(truth.T, bias=True)
        return cls(np.eye(size), SMALL * np.eye(size), center, center, spread)

    def _covariance(self, share: float, rest: float) -> Table:
        """Of what a sum says, given the target: the noise of all and the shapes of the others."""
        others = self.slope @ self.spread @ self.slope.T
        return (share**2 + rest) * self.noise + rest * others

    def best(
        self, said: Shapes, gallery: Shapes, share: float, rest: float
    ) -> Int[np.ndarray, " cases"]:
        """The likeliest candidate for each thing that is said.

        Args:
            said: Of sums.
            gallery: Shapes of the candidates.
            share: The target's part of a sum.
            rest: Sum of squares of the other parts.
        """
        inverse = np.linalg.inv(self._covariance(share, rest))
        due = share * (gallery - self.center) @ self.slope.T
        away = (said - self.said)[:, None] - due[None]
        return np.einsum("nci,ij,ncj->nc", away, inverse, away).argmin(1)

    def shape(self, said: Shapes, share: float, rest: float) -> Shapes:
        """The mean shape of a target of whom, among others, that is said."""
        due = share * self.slope
        whole = due @ self.spread @ due.T + self._covariance(share, rest)
        gain = self.spread @ due.T @ np.linalg.inv(whole)
        return (said - self.said) @ gain.T + self.center


@dataclass(frozen=True)
class Sums:
    """Sums with one target each.

    Attributes:
        target: Whose shape is looked for, by its place in the gallery.
        parts: Each person's part of each sum.
    """

    target: Int[np.ndarray, " sums"]
    parts: Float[np.ndarray, "sums people"]

    @property
    def share(self) -> float:
        """The target's part, on average."""
        return float(self.parts[np.arange(len(self.target)), self.target].mean())

    @property
    def rest(self) -> float:
        """Sum of squares of the other parts, on average."""
        own = self.parts[np.arange(len(self.target)), self.target]
        return float((np.square(self.parts).sum(1) - own**2).mean())


def sums_of(weights: Float[np.ndarray, " people"], cohort: int, seed: int) -> Sums:
    """Cohorts at random: each of the people is the target of some; one member is no sum.

    Args:
        weights: Of the clients in a mean.
        cohort: Members.
        seed: Draws them.
    """
    rng, count = np.random.default_rng(seed), len(weights)
    draws = NUM_DRAWS if cohort > 1 else 1
    target = np.repeat(np.arange(count), draws)
    parts = np.zeros((len(target), count))
    for row, own in enumerate(target):
        others = rng.permutation(np.delete(np.arange(count), own))[: cohort - 1]
        members = np.append(others, own)
        parts[row, members] = weights[members] / weights[members].sum()
    return Sums(target, parts)


@dataclass(frozen=True)
class LineUp:
    """What came of a line-up.

    Attributes:
        target: Who was looked for, by place in the gallery.
        hits: Whether the likeliest candidate was the target.
        guess: The shape that was made out.
        gallery: All candidates.
    """

    target: Int[np.ndarray, " cases"]
    hits: Bool[np.ndarray, " cases"]
    guess: Float[np.ndarray, "cases betas"]
    gallery: Shapes

    @property
    def people(self) -> np.ndarray:
        """Everybody who was looked for."""
        return np.unique(self.target)

    def top1(self, people: np.ndarray) -> float:
        """Share of right answers for some targets, each counted as often as it is named."""
        cases = np.bincount(self.target)
        return float((np.bincount(self.target, self.hits)[people] / cases[people]).mean())

    def r2(self, people: np.ndarray) -> float:
        """R2 of the shape of some targets."""
        rows = np.concatenate([np.flatnonzero(self.target == person) for person in people])
        return explained(self.gallery[self.target[rows]], self.guess[rows])


def line_up(
    channel: Channel, told: Shapes, gallery: Shapes, target: np.ndarray, share: float, rest: float
) -> LineUp:
    """Looks for every target among all candidates.

    Args:
        channel: How a shape turns into what is said.
        told: What is said in each case.
        gallery: Shapes of the candidates.
        target: Who is looked for in each case.
        share: Part of the target in what is said.
        rest: Sum of squares of the others' parts.
    """
    hits = channel.best(told, gallery, share, rest) == target
    return LineUp(target, hits, channel.shape(told, share, rest), gallery)


def in_sums(channel: Channel, said: Shapes, gallery: Shapes, sums: Sums) -> LineUp:
    """Looks for every target in its sums; `said` is what is said of each person alone."""
    return line_up(channel, sums.parts @ said, gallery, sums.target, sums.share, sums.rest)


def figures(attack: str, found: LineUp, best: LineUp, seed: int, what: str) -> list[Figure]:
    """Top-1 and R2 with their lines.

    Args:
        attack: Key of the attack.
        found: What it reached.
        best: What is reached by whom this view tells all that it could.
        seed: Draws people for the intervals.
        what: From what, in words.
    """
    people = found.people
    top1, r2 = f"top1{_of(attack)}", f"r2{_of(attack)}"
    kinds: list[tuple[str, Callable[[LineUp, np.ndarray], float], float, str, str]] = [
        (top1, LineUp.top1, 1 / len(found.gallery), "share", "targets found first in a line-up"),
        (r2, LineUp.r2, 0.0, "R2", "body shape explained"),
    ]
    return [
        Figure(
            attack=attack.split(":")[0],
            name=name,
            value=of(found, people),
            interval=interval_of(lambda d, of=of: of(found, people[d]), len(people), seed),
            chance=chance,
            ceiling=of(best, people),
            unit=unit,
            n=len(people),
            means=f"{means}, {what}",
        )
        for name, of, chance, unit, means in kinds
    ]


def _of(attack: str) -> str:
    """What follows the colon of an attack's name."""
    _, _, more = attack.partition(":")
    return f"_{more}" if more else ""
