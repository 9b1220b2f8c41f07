"""The gate under differential privacy: each reply alone, finite and within the clip.

What holds a reply against the others would let one client change what others count for, by more
than the noise is made for; so nothing of `validation.Gate` that looks at a cohort is done here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pchmr.federated.accounting import CLIP_SLACK
from pchmr.federated.cohort import Reply
from pchmr.federated.fold import Flat, vector_norm
from pchmr.federated.update import Rejected, Update
from pchmr.federated.validation import Gate


@dataclass(kw_only=True)
class ClipGate(Gate):
    """Lets through what a client of a noised run may send.

    Attributes:
        longest: Length of an update.
    """

    longest: float

    @classmethod
    def within(cls, clip: float, most_samples: int) -> "ClipGate":
        """A gate for clients that shorten their updates to a clip."""
        return cls(
            step_length=clip,
            gradient_length=clip,
            max_samples=most_samples,
            batch_size=1,
            local_epochs=1,
            longest=CLIP_SLACK * clip,
        )

    def admit(
        self,
        client_id: int,
        update: Update,
        statistics: Flat,
        variances: Bool[np.ndarray, " size"],
    ) -> Reply:
        """Looks at a reply alone.

        Raises:
            Rejected: It is longer than the clip, or tells a count or a loss.
        """
        if (update.num_samples, update.num_steps, update.loss_sum) != (1, 1, None):
            raise Rejected("num_samples")
        with np.errstate(over="ignore", invalid="ignore"):
            length = vector_norm(update.arrays["delta"])
        if not length <= self.longest:
            raise Rejected("norm")
        return Reply(client_id, update, {"delta": length}, {}, "", 1, 1)

    def judge(self, replies: list[Reply]) -> None:
        """Compares nobody with anybody."""
