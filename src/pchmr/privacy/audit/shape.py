"""Body shape from an update: kernel ridge regression taught by shadow clients, then a line-up.

The attack is linear in the update, so what it says of a sum of updates is the weighted mean of what
it says of each: cohorts of any size, and sums over many rounds, are read from the same updates.

Every tensor has a kernel of its own; how much each counts is chosen on people that neither teach
nor are attacked. A line-up asks which of 150 known shapes the target has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from pchmr.privacy.audit.figures import explained

POWERS = (0.0, 1.0, 2.0, 4.0)
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
LEAST_TENSOR = 1e-3  # of a tensor's own R2; those below teach nothing

Features = Float[np.ndarray, "_ sketch"]
Shapes = Float[np.ndarray, "_ betas"]


@dataclass(frozen=True)
class ShapeAttack:
    """A linear map from the sketch of an update to a shape.

    Attributes:
        center: Mean sketch of the shadow clients.
        weights: The map.
        mean: Mean shape of the shadow people.
        power: Of each tensor's own R2 in its weight: chosen.
        ridge: In units of the kernel's mean diagonal: chosen.
        tuning_r2: On the tuning people.
        by_tensor: R2 of each tensor alone, each shadow person left out in turn.
        shadow_said: What is said of each shadow person when it does not teach.
    """

    center: Float[np.ndarray, " sketch"]
    weights: Float[np.ndarray, "sketch betas"]
    mean: Float[np.ndarray, " betas"]
    power: float
    ridge: float
    tuning_r2: float
    by_tensor: dict[str, float]
    shadow_said: Shapes

    def __call__(self, features: Features) -> Shapes:
        """Shapes that sketches tell of."""
        return (features - self.center) @ self.weights + self.mean


def left_out(
    kernel: Float[np.ndarray, "n n"], truth: Shapes, ridge: float
) -> tuple[Shapes, Shapes]:
    """Dual coefficients, and what is said of each person when it does not teach."""
    inverse = np.linalg.inv(kernel + ridge * np.eye(len(kernel)) * np.diag(kernel).mean())
    dual = inverse @ truth
    return dual, truth - dual / np.diag(inverse)[:, None]


def taught(
    features: Features,
    betas: Shapes,
    shadow: np.ndarray,
    tuning: np.ndarray,
    names: Sequence[str],
    places: Sequence[slice],
) -> ShapeAttack:
    """Fits the attack on shadow people and chooses its settings on tuning people."""
    center, mean = features[shadow].mean(0), betas[shadow].mean(0)
    known, truth = features[shadow] - center, betas[shadow] - mean
    kernels, scales, own = [], [], []
    for place in places:
        table = known[:, place] @ known[:, place].T
        scale = float(np.diag(table).mean())
        kernels.append(table / scale if scale > 0 else table)
        scales.append(1 / scale if scale > 0 else 0.0)
        own.append(explained(truth, left_out(kernels[-1], truth, 1.0)[1]) if scale > 0 else 0.0)
    stack, value = np.stack(kernels), np.maximum(own, LEAST_TENSOR)
    held, wanted = features[tuning] - center, betas[tuning]
    best: ShapeAttack | None = None
    for power, ridge in product(POWERS, RIDGES):
        share = value**power / (value**power).sum()
        dual, alone = left_out(np.tensordot(share, stack, 1), truth, ridge)
        factor = np.concatenate(
            [
                np.full(place.stop - place.start, part * scale)
                for place, part, scale in zip(places, share, scales, strict=True)
            ]
        )
        weights = factor[:, None] * (known.T @ dual)
        r2 = explained(wanted, held @ weights + mean)
        if best is None or r2 > best.tuning_r2:
            by_tensor = dict(zip(names, map(float, own), strict=True))
            best = ShapeAttack(center, weights, mean, power, ridge, r2, by_tensor, alone + mean)
    assert best is not None
    return best
