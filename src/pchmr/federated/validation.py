"""The gate before the sum: a reply that could harm the model is set aside, and the round goes on.

It sees what the egress schema let through and checks values: finite, no more samples than the
largest client holds, the steps that so many samples take, no negative variance, and a length that
an honest client can reach: at most five times the running median of good updates, or what AdamW
can move in so many steps, whichever is more (clients with ten times the images rightly move
farther). A control variate is a mean of clipped gradients, and so no longer than the clip allows.
It cannot tell an honest update from a clever one of ordinary length.
"""

import math
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from jaxtyping import Bool, Float

from pchmr.config import OptimOptions
from pchmr.federated.egress import Rejected, Update
from pchmr.federated.fold import vector_norm

Values = Float[np.ndarray, " size"]
NORM_FACTOR = 5.0
NORM_MEMORY = 200
# AdamW moves an entry by about its learning rate a step; twice that leaves room for its start.
STEP_SLACK = 2.0
CONTROL_SLACK = 1.01  # rounding
# From scratch, statistics leave their start (mean 0, variance 1) by far in the first epoch.
FIRST_DRIFT, LATER_DRIFT = 100.0, 0.5


@dataclass(kw_only=True)
class Gate:
    """Judges updates one by one; its memory is part of a checkpoint.

    Attributes:
        step_length: Farthest that a step can move the weights.
        gradient_length: Longest gradient after clipping.
        max_samples: Most samples that one client holds.
        batch_size: People per step; with the samples it says the steps.
        local_epochs: Passes that a client makes.
        norms: Lengths of good updates, latest last.
        drifts: Lengths of good changes of running statistics, latest last.
    """

    step_length: float
    gradient_length: float
    max_samples: int
    batch_size: int
    local_epochs: int
    norms: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)

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
        reach = self.step_length * update.num_steps
        if norm > max(NORM_FACTOR * median(self.norms), reach) if self.norms else norm > reach:
            raise Rejected("norm")
        if "control" in update.arrays:  # the change between two means of clipped gradients
            change = _finite_length(update.arrays["control"])
            if change > CONTROL_SLACK * 2 * self.gradient_length:
                raise Rejected("norm")
        drift = self._drift(update, statistics, variances)
        self.norms = [*self.norms, norm][-NORM_MEMORY:]
        self.drifts = [*self.drifts, drift][-NORM_MEMORY:]
        return norm

    def _drift(self, update: Update, statistics: Values, variances: np.ndarray) -> float:
        """How far a client's running statistics are from the global ones."""
        found = update.arrays.get("buffers")
        if found is None:
            return 0.0
        if np.any(found[variances] < 0):
            raise Rejected("buffers")
        drift, scale = _finite_length(found - statistics), max(1.0, vector_norm(statistics))
        bound = (
            max(NORM_FACTOR * median(self.drifts), LATER_DRIFT * scale)
            if self.drifts
            else FIRST_DRIFT * scale
        )
        if drift > bound:
            raise Rejected("buffers")
        return drift


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
