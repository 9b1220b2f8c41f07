"""The gate before the sum: a reply that could harm the model is set aside, and the round goes on.

It sees what the egress schema let through and checks values: finite, no more samples than the
largest client holds, the steps that so many samples take, no negative variance, and a length of at
most five times the median of the latest good updates, where a shorter one counts for as many steps
as the client made (clients with ten times the images rightly move farther). Where there is nothing
to compare with, a length that AdamW can reach. When all of a cohort have replied, its own median
judges them once more: the first cohort has no other, and lengths fall with the learning rate. If
that sets any aside, further cohorts of the same round are held against what was left, so that a
round cannot be held up for long; the next round has the whole memory again, which no single cohort
can overturn. A control variate is a mean of clipped gradients, and so no longer than the clip
allows. The gate cannot tell an honest update from a clever one of ordinary length.
"""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pchmr.config import OptimOptions
from pchmr.federated.flower.egress import Rejected, Update
from pchmr.federated.fold import vector_norm

Values = Float[np.ndarray, " size"]
NORM_FACTOR = 5.0
MEMORY = 200
# AdamW moves an entry by about its learning rate a step; twice that leaves room for its start.
STEP_SLACK = 2.0
CONTROL_SLACK = 1.01  # rounding
# From scratch, statistics leave their start (mean 0, variance 1) by far in the first epoch.
FIRST_DRIFT, LATER_DRIFT = 100.0, 0.5


class Seen(NamedTuple):
    """What the gate remembers of a good update.

    Attributes:
        norm: Its length.
        num_steps: How many steps it took.
        drift: Length of the change of running statistics.
    """

    norm: float
    num_steps: int
    drift: float


@dataclass(kw_only=True)
class Gate:
    """Judges updates one by one, then a cohort; its memory is part of a checkpoint.

    Attributes:
        step_length: Farthest that a step can move the weights.
        gradient_length: Longest gradient after clipping.
        max_samples: Most samples that one client holds.
        batch_size: People per step; with the samples it says the steps.
        local_epochs: Passes that a client makes.
        memory: Good updates of settled cohorts, latest last.
        cohort: Good updates of the cohort that replies now.
        attempt: Good updates of a cohort of this round that held others too.
    """

    step_length: float
    gradient_length: float
    max_samples: int
    batch_size: int
    local_epochs: int
    memory: list[Seen] = field(default_factory=list)
    cohort: list[Seen] = field(default_factory=list)
    attempt: list[Seen] = field(default_factory=list)

    @classmethod
    def of(
        cls, options: OptimOptions, *, num_parameters: int, max_samples: int, local_epochs: int
    ) -> "Gate":
        """A gate for clients that train with these options."""
        root = math.sqrt(num_parameters)
        return cls(
            step_length=STEP_SLACK * options.learning_rate * root,
            gradient_length=options.clip * (1 if options.clip_by == "norm" else root),
            max_samples=max_samples,
            batch_size=options.batch_size,
            local_epochs=local_epochs,
        )

    def begin(self) -> None:
        """A new round."""
        self.cohort, self.attempt = [], []

    def admit(
        self, update: Update, statistics: Values, variances: Bool[np.ndarray, " size"]
    ) -> float:
        """Lets a good update pass and remembers its length, which is returned.

        Args:
            update: What the schema let through.
            statistics: Running statistics of the global model.
            variances: Which of them are variances.

        Raises:
            Rejected: With the reason code.
        """
        if not 1 <= update.num_samples <= self.max_samples:
            raise Rejected("num_samples")
        if update.num_steps != math.ceil(update.num_samples / self.batch_size) * self.local_epochs:
            raise Rejected("num_samples")
        norm = _finite_length(update.arrays["delta"])
        recent = [*(self.attempt or self.memory), *self.cohort][-MEMORY:]
        if norm > self._longest(update.num_steps, recent):
            raise Rejected("norm")
        if "control" in update.arrays:  # the change between two means of clipped gradients
            change = _finite_length(update.arrays["control"])
            if change > CONTROL_SLACK * 2 * self.gradient_length:
                raise Rejected("norm")
        drift = 0.0
        if (found := update.arrays.get("buffers")) is not None:
            if np.any(found[variances] < 0):
                raise Rejected("buffers")
            drift = _finite_length(found - statistics)
            if drift > _farthest(statistics, recent):
                raise Rejected("buffers")
        self.cohort.append(Seen(norm, update.num_steps, drift))
        return norm

    def settle(self, statistics: Values) -> dict[int, str]:
        """Looks at a cohort whole, remembers what is good of it, and makes room for the next.

        Args:
            statistics: As for `admit`.

        Returns:
            Reason codes of updates that had passed and should not have, by their place among those
            that had passed. The sum that holds them is spoiled.
        """
        farthest, refused = _farthest(statistics, self.cohort), {}
        for place, seen in enumerate(self.cohort):
            if seen.norm > self._longest(seen.num_steps, self.cohort):
                refused[place] = "norm"
            elif seen.drift > farthest:
                refused[place] = "buffers"
        good = [seen for place, seen in enumerate(self.cohort) if place not in refused]
        self.memory, self.cohort = [*self.memory, *good][-MEMORY:], []
        if refused:
            self.attempt = good
        return refused

    def _longest(self, num_steps: int, others: list[Seen]) -> float:
        """Farthest that so many steps may lead, by what others' steps did, if any did a thing."""
        lengths = [seen.norm * max(1, num_steps / seen.num_steps) for seen in others]
        middle = median(lengths) if lengths else 0.0
        return NORM_FACTOR * middle if middle else self.step_length * num_steps


def _farthest(statistics: Values, others: list[Seen]) -> float:
    """Farthest that running statistics may move, by what others' did."""
    scale = max(1.0, vector_norm(statistics))
    if not others:
        return FIRST_DRIFT * scale
    return max(NORM_FACTOR * median(seen.drift for seen in others), LATER_DRIFT * scale)


def _finite_length(values: Values) -> float:
    """The length of a vector whose entries are all finite.

    Raises:
        Rejected: `non_finite` for NaN or infinity, `norm` where the square overflows float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norm = vector_norm(values)
    if not math.isfinite(norm):
        raise Rejected("norm" if np.isfinite(values).all() else "non_finite")
    return norm
