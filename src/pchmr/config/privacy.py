"""What the server may learn of an update: in the clear or a sum alone, with noise or without.

The checks that need nothing but settings stand here, so that a run that cannot be is refused before
people are rendered.
"""

from dataclasses import dataclass
from typing import Literal

from pchmr.config.errors import require
from pchmr.config.options import ServerOptions

SECURE_BITS = 20
LEAST_STEPS = 127  # of one client's integers, each way: below that rounding drowns an update
FEWEST, MOST = 5, 50  # clients whose sum is taken
COUNTED = ("scaffold", "fednova")
"""Algorithms for which a client tells more than its update: a control variate, or its steps."""


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions:
    """What the server may learn of a client."""

    aggregation: Literal["plain", "secure"] = "plain"
    """plain: the server sees every update; secure: the sum of a cohort's updates alone."""
    secure_bits: int = SECURE_BITS
    """Bits of a summed value, the carry of the sum included; 32 rounds least, 20 sends least."""
    dp_noise_multiplier: float | None = None
    """Differential privacy of a client: standard deviation of the sum's noise, in clips."""
    dp_clip: float | None = None
    """Largest length of a client's update under differential privacy; the client shortens it."""

    def __post_init__(self) -> None:
        require(
            self.is_secure or self.secure_bits == SECURE_BITS,
            "--secure-bits is read by --aggregation secure only: leave it out",
        )
        noise, clip = self.dp_noise_multiplier, self.dp_clip
        require(
            (noise is None) == (clip is None),
            "--dp-noise-multiplier and --dp-clip belong together: give both or none",
        )
        require(noise is None or 0.01 <= noise <= 1000, "--dp-noise-multiplier: 0.01 to 1000")
        require(clip is None or 1e-6 <= clip <= 1e6, "--dp-clip must lie in 1e-6 to 1e6")

    @property
    def is_secure(self) -> bool:
        """Whether the server sees sums alone."""
        return self.aggregation == "secure"

    @property
    def is_noised(self) -> bool:
        """Whether updates are clipped and noise is added."""
        return self.dp_clip is not None

    def check(self, clients_per_round: int, algorithm: str, server: ServerOptions) -> None:
        """Refuses what the rest of a run's settings do not go with.

        Args:
            clients_per_round: Size of a cohort.
            algorithm: Of the server.
            server: How replies are put together, and what else travels.

        Raises:
            SettingError: With the reason and what to do instead.
        """
        if self.is_secure:
            self._check_sum(clients_per_round, server.rule)
        if self.is_noised:
            self._check_noise(clients_per_round, algorithm, server.rule)
            require(
                server.client_state != "average",
                "--dp-clip lets one clipped vector leave a client, and --client-state average "
                "sends the moments of its optimizer beside: take reset or keep",
            )

    def _check_sum(self, size: int, rule: str) -> None:
        require(
            rule == "mean",
            f"--aggregation secure shows the server a sum alone, and {rule} must see every update: "
            "leave --aggregation-rule and --trimmed-replies out (each client clips its own update)",
        )
        require(
            FEWEST <= size <= MOST,
            f"--aggregation secure takes {FEWEST} to {MOST} --clients-per-round, not {size}: the "
            "sum of fewer says much of each, and every pair shares a mask, which is too much for "
            "more (those need a sparse graph, Bell et al. 2020)",
        )
        bits = self.secure_bits
        require(bits <= 32, f"--secure-bits {bits} is more than 32")
        room = (2 ** (max(bits, 1) - 1) - 1) // size - 1
        require(
            room >= LEAST_STEPS,
            f"--secure-bits {bits} leaves {max(room, 0)} steps to each of {size} clients; take "
            "more bits or fewer --clients-per-round",
        )

    def _check_noise(self, size: int, algorithm: str, rule: str) -> None:
        require(
            algorithm not in COUNTED,
            f"--dp-clip lets one clipped vector leave a client, and {algorithm} sends more: take "
            "fedavg, fedavgm, nesterov, fedprox, fedadam, fedyogi or fedadagrad",
        )
        require(
            rule == "mean",
            f"--dp-clip bounds what one client changes in a mean, not in {rule}: leave "
            "--aggregation-rule and --trimmed-replies out",
        )
