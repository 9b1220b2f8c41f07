"""Differential privacy of clients: the one clipped vector that leaves, its noise, and epsilon.

The unit is the client; it is a person only where data are dealt by person. Two runs are adjacent if
one client's vectors are zeros in one of them: who takes part is no secret. Nothing is gained by
sampling, since the server draws the cohorts and so knows them. Rounds of the busiest client are
composed with Renyi accounting (`dp-accounting`); the divergence of Skellam noise, which that
package lacks, is Agarwal, Kairouz and Liu 2021, arXiv 2110.04995, theorem 3.5.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.special import ndtri

from pchmr.config import FederateConfig, require
from pchmr.door import Json
from pchmr.federated.fold import vector_norm
from pchmr.federated.secure.masks import stream
from pchmr.federated.secure.noise import (
    TAIL,
    honest_survivors,
    noisy_capacity,
    rounded_length,
    uniforms,
)
from pchmr.federated.secure.policy import threshold_of
from pchmr.federated.update import Update

Values = Float32[np.ndarray, " _"]
WHOLE_ORDERS = (*map(float, range(2, 129)), 160.0, 192.0, 256.0, 384.0, 512.0, 1024.0)
ORDERS = (*(1 + step / 50 for step in range(1, 50)), *WHOLE_ORDERS)
"""Of Renyi divergence; the bound for Skellam noise holds for whole ones."""
MOST_DELTA = 1e-2
GRID = 2.0**-12  # noised values are multiples of this share of the noise
CLIP_SLACK = 1 + 1e-5  # rounding of a float32 length


def require_accountant() -> None:
    """Refuses a noised run before it starts if its epsilon cannot be told."""
    found = find_spec("dp_accounting") is not None
    require(found, "--dp-clip needs the package dp-accounting: install pchmr's requirements again")


def clipped(update: Update, clip: float) -> Update:
    """The one vector of a client, shortened to the clip; no count, no loss beside it.

    A vector that is not finite becomes zeros, so that nobody sees that training diverged.
    """
    delta = update.arrays["delta"]
    with np.errstate(over="ignore", invalid="ignore"):
        length = vector_norm(delta)
    if not math.isfinite(length):
        delta = np.zeros_like(delta)
    elif length > clip:
        delta = delta * np.float32(clip / length)
    return Update({"delta": delta}, num_samples=1, num_steps=1, loss_sum=None)


class GaussianNoise:
    """Normal noise from the system's randomness, for a server that is trusted to add it.

    Sums are put on a grid after the noise, so that a float's last digits tell nothing of them.
    """

    def __init__(self, deviation: float) -> None:
        self._deviation, self._bits = deviation, stream(os.urandom(32))

    def add(self, values: Values) -> None:
        """Adds noise in place."""
        drawn = ndtri(np.maximum(uniforms(len(values), self._bits), 2.0**-54))
        step = self._deviation * GRID
        values[...] = np.rint((values + self._deviation * drawn) / step) * step


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What differential privacy a run has, and what is assumed.

    Attributes:
        epsilon: The bound.
        delta: Its exception.
        unit: Whose data is protected.
        adjacency: What differs between the runs that are compared.
        adversary: Who may look, and at what.
        mechanism: What is done.
        sampling: What drawing cohorts adds.
        num_rounds: Vectors of the busiest client: all that it was asked for where the server is the
            adversary, those that changed the model otherwise.
        noise_multiplier: Standard deviation of a sum's noise in clips.
        clip: Longest vector of a client.
        wrap_probability: Bound on the probability that one of those sums leaves the ring.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    adversary: str
    mechanism: str
    sampling: str
    num_rounds: int
    noise_multiplier: float
    clip: float
    wrap_probability: float

    def plain(self) -> Json:
        """In plain values."""
        return asdict(self)

    def words(self) -> str:
        """The guarantee in a line."""
        return (
            f"epsilon {self.epsilon:.3g} at delta {self.delta:.2g} per {self.unit} "
            f"({self.num_rounds} rounds, {self.mechanism}); against {self.adversary}; adjacency: "
            f"{self.adjacency}; sampling: {self.sampling}"
        )


def guarantee(config: FederateConfig, num_rounds: int, size: int, by: str) -> Guarantee | None:
    """Of a run; None without noise.

    Args:
        config: Of the run.
        num_rounds: Vectors of the busiest client that the adversary may have seen in a sum.
        size: Length of the vector.
        by: What the data were dealt by.
    """
    options = config.privacy_options
    noise, clip = options.dp_noise_multiplier, options.dp_clip
    if noise is None or clip is None:
        return None
    wraps = 0.0
    delta = min(MOST_DELTA, config.num_clients**-1.1)
    if options.is_secure:
        count, threshold = config.clients_per_round, threshold_of(config.clients_per_round)
        room = noisy_capacity(options.secure_bits, count, threshold, noise, size)
        longest = rounded_length(float(room), size)
        divergence = skellam_divergence(noise, longest, size)
        wraps = num_rounds * wrap_bound(noise * longest, count, threshold, size)
        mechanism = f"Skellam noise of {noise:g} clips in shares, clip {clip:g}"
        adversary = (
            f"the server with up to {count - threshold} clients of a cohort, and the released model"
        )
    else:
        divergence = gaussian_divergence(noise)
        mechanism = f"Gaussian noise of {noise:g} clips, clip {clip:g} (central)"
        adversary = "whoever gets the released model; the server is trusted and sees every update"
    return Guarantee(
        epsilon=epsilon_of(divergence, num_rounds, delta),
        delta=delta,
        unit=f"client (data dealt {by})",
        adjacency="one client's vectors are zeros instead; who takes part is known",
        adversary=adversary,
        mechanism=mechanism,
        sampling="no amplification, the server draws the cohorts",
        num_rounds=num_rounds,
        noise_multiplier=noise,
        clip=clip,
        wrap_probability=min(1.0, wraps),
    )


def most_changed(rows: Sequence[Mapping[str, Any]]) -> int:
    """Rounds that changed the model, of the client that took part in most of them."""
    busy = Counter(client for row in rows if row["changed"] for client in row["cohort"])
    return max(busy.values(), default=0)


def wrap_bound(deviation: float, num_clients: int, threshold: int, size: int) -> float:
    """Probability at most that the noise of a sum takes an entry out of the ring (Chernoff).

    Args:
        deviation: Of the noise of the fewest honest survivors; with all clients there is more.
        num_clients: Of the cohort.
        threshold: Of it.
        size: Of the vector.
    """
    variance = deviation**2 * num_clients / honest_survivors(num_clients, threshold)
    far = TAIL * math.sqrt(variance)
    log_tail = math.hypot(far, variance) - variance - far * math.asinh(far / variance)
    return min(1.0, 2 * size * math.exp(log_tail))


def gaussian_divergence(noise: float) -> dict[float, float]:
    """Renyi divergence of a round by order (Mironov 2017, arXiv 1702.07476, proposition 7)."""
    return {order: order / (2 * noise**2) for order in ORDERS}


def skellam_divergence(noise: float, longest: float, size: int) -> dict[float, float]:
    """Renyi divergence of a round by order.

    Args:
        noise: Standard deviation of the sum's noise over `longest`.
        longest: Length of a client's rounded vector.
        size: Of the vector.
    """
    variance = (noise * longest) ** 2
    taxicab = min(math.sqrt(size) * longest, longest**2)

    def at(order: float) -> float:
        one = ((2 * order - 1) * longest**2 + 6 * taxicab) / (4 * variance**2)
        return order * longest**2 / (2 * variance) + min(one, 3 * taxicab / (2 * variance))

    return {order: at(order) for order in WHOLE_ORDERS}


def epsilon_of(divergence: Mapping[float, float], num_rounds: int, delta: float) -> float:
    """Of that many rounds, from the divergence of one by order."""
    from dp_accounting import rdp

    if not num_rounds:
        return 0.0
    composed = [num_rounds * value for value in divergence.values()]
    return float(rdp.compute_epsilon(list(divergence), composed, delta)[0])
