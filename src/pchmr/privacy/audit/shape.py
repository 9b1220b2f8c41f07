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

POWERS = (1.0, 2.0, 4.0, 8.0)
RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
OWN_RIDGE = 0.3
TINY = 1e-12
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
    shift = max(ridge * float(np.diag(kernel).mean()), TINY)
    inverse = np.linalg.inv(kernel + shift * np.eye(len(kernel)))
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
    truth, count = betas[shadow] - mean, len(shadow)
    centered = features[np.concatenate([shadow, tuning])] - center
    tables = [_table(centered[:, place], count) for place in places]
    own = [explained(truth, left_out(table[:count], truth, OWN_RIDGE)[1]) for table, _ in tables]
    stack, value = np.stack([table for table, _ in tables]), np.maximum(own, LEAST_TENSOR)
    tried = []
    for power, ridge in product(POWERS, RIDGES):
        share = value**power / (value**power).sum()
        table = np.tensordot(share, stack, 1)
        dual, alone = left_out(table[:count], truth, ridge)
        r2 = explained(betas[tuning], table[count:] @ dual + mean)
        tried.append((r2, power, ridge, share, dual, alone))
    r2, power, ridge, share, dual, alone = max(tried, key=lambda one: one[0])
    known, weights = centered[:count].T, np.empty((features.shape[1], betas.shape[1]))
    for place, part, (_, scale) in zip(places, share, tables, strict=True):
        weights[place] = part * scale * (known[place] @ dual)
    by_tensor = dict(zip(names, map(float, own), strict=True))
    return ShapeAttack(center, weights, mean, power, ridge, r2, by_tensor, alone + mean)


def _table(
    part: Float[np.ndarray, "people entries"], count: int
) -> tuple[Float[np.ndarray, "people shadow"], float]:
    """Products of everybody with the shadow people, scaled, and the scale."""
    found = (part @ part[:count].T).astype(np.float64)
    size = float(np.diag(found[:count]).mean())
    scale = 1 / size if size > 0 else 0.0
    return found * scale, scale
