"""Values as ring elements and back: clip, stochastic rounding, two's complement, exact sums.

A group's range is fixed before anyone answers, from what all know. A value is clipped to it, scaled
by the client's weight over the largest weight, and rounded up or down at random so that its
expectation stays; n such integers fit r bits with their sign, so the sum is the integers' sum. What
rounding and clipping leave behind can be carried to a client's next vector (error feedback). The
random bits are a cryptographic stream from the system's randomness, never the experiment's seed.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pchmr.federated.secure.masks import Stream, scratch, stream
from pchmr.federated.secure.messages import Group, Settings
from pchmr.federated.secure.noise import (
    Integers,
    honest_survivors,
    noisy_capacity,
    rounded,
    rounded_length,
    skellam,
)
from pchmr.federated.secure.packing import CHUNK, Ring
from pchmr.federated.secure.policy import threshold_of
from pchmr.federated.secure.refusal import Reason, refuse_unless

LEAST_CAPACITY = 127
_EXACT_IN_FLOAT32 = 2**20

Values = Float32[np.ndarray, " _"]


def capacity(bits: int, num_clients: int) -> int:
    """The largest size of one client's integer, so that a cohort's sum cannot wrap around.

    One is left free: a float's last rounding may add a unit.
    """
    return (2 ** (bits - 1) - 1) // num_clients - 1


@dataclass(frozen=True)
class Coder:
    """How one group's values become integers.

    Attributes:
        group: Its range and its limbs.
        capacity: Largest integer of a limb.
    """

    group: Group
    capacity: int

    @property
    def largest(self) -> int:
        """The integer that stands for the bound."""
        if self.group.limbs == 1:
            return self.capacity
        return (self.capacity - 1) * self.capacity

    @property
    def scale(self) -> float:
        """Integers a unit."""
        return self.largest / self.group.bound

    def quantize(
        self, values: np.ndarray, share: float, noise: Stream, buffer: bytearray
    ) -> np.ndarray:
        """Integers of some values, as floats: the scaled value's floor, and one more with the
        probability of what is left.

        Clipped after they are scaled: a bound that was rounded up to a float would pass the ring.
        A random number is compared with the fraction and never added to the value: at 2^18 a float
        holds 32nds, and every 64th draw would have rounded an integer up to the next.

        Args:
            values: Finite.
            share: What they are multiplied by, in (0, 1].
            noise: Random bits, 16 a value.
            buffer: Room for them.
        """
        wide = np.float32 if self.largest <= _EXACT_IN_FLOAT32 else np.float64
        noise(2 * len(values), buffer)
        drawn = np.frombuffer(buffer, dtype="<u2", count=len(values)).astype(wide)
        drawn *= 2.0**-16
        with np.errstate(over="ignore"):  # what is too large for a float is clipped like the rest
            scaled = values * wide(self.scale * share)
        most = wide(self.largest * share)
        floor = np.floor(np.clip(scaled, -most, most, out=scaled))
        np.less(drawn, np.subtract(scaled, floor, out=scaled), out=drawn)
        return np.add(floor, drawn, out=floor)

    def to_ring(self, integers: np.ndarray) -> Ring:
        """Integers as elements of Z_2^32, limbs side by side."""
        if self.group.limbs == 1:
            return integers.astype(np.int32).view(np.uint32)
        low = np.mod(integers, self.capacity)
        limbs = np.stack([low, (integers - low) / self.capacity], axis=1)
        return limbs.ravel().astype(np.int32).view(np.uint32)

    def from_sum(self, total: Ring, bits: int) -> Values:
        """The sum of the clients' values, from their ring elements' sum.

        Where a value is one element it is written in the element's place.
        """
        spare = np.uint32(32 - bits)
        total <<= spare
        signed = total.view(np.int32)
        signed >>= spare.astype(np.int32)
        if self.group.limbs == 1:
            values = total.view(np.float32)
            return np.multiply(signed, np.float32(1 / self.scale), out=values, casting="unsafe")
        low, high = signed[0::2].astype(np.float64), signed[1::2]
        return ((low + high * float(self.capacity)) / self.scale).astype(np.float32)


def coders(settings: Settings, num_clients: int) -> list[Coder]:
    """One coder a group.

    Raises:
        Refusal: The ring is too narrow for the cohort.
    """
    if settings.noise:
        one = len(settings.groups) == 1 and settings.groups[0].limbs == 1
        plain = one and not settings.groups[0].weighted
        refuse_unless(plain, Reason.WRONG_CONFIG, "noise goes with one vector and no weights")
        threshold, size = threshold_of(num_clients), settings.num_elements
        room = noisy_capacity(settings.bits, num_clients, threshold, settings.noise, size)
    else:
        room = capacity(settings.bits, num_clients)
    cure = "take more bits or fewer clients"
    refuse_unless(
        room >= LEAST_CAPACITY,
        Reason.WRONG_CONFIG,
        f"{settings.bits} bits leave {max(room, 0)} steps to each of {num_clients} clients; {cure}",
    )
    return [Coder(group, room) for group in settings.groups]


def check_values(settings: Settings, values: Sequence[Values], weight: float) -> None:
    """Refuses values of another shape, and weights out of range.

    Raises:
        Refusal: A group has another size, or the weight is not in (0, cap].
    """
    sizes = tuple(len(v) for v in values) == tuple(group.size for group in settings.groups)
    refuse_unless(sizes, Reason.WRONG_SIZE, "the vector's groups have other sizes")
    fits = 0 < weight <= settings.weight_cap
    refuse_unless(fits, Reason.WRONG_SIZE, f"weight {weight} is not in (0, {settings.weight_cap}]")


def encode(
    settings: Settings,
    num_clients: int,
    values: Sequence[Values],
    weight: float,
    residuals: Sequence[Values | None] | None = None,
) -> Iterator[Ring]:
    """Yields the vector's ring elements in chunks of `CHUNK`, before masks; see `check_values`.

    Args:
        settings: Groups and ring.
        num_clients: Of the cohort.
        values: One flat array a group.
        weight: Of this client; groups that are weighted are scaled by weight / cap.
        residuals: What earlier vectors left behind, by group; changed in place to what is left
            behind now. None: no error feedback.

    Raises:
        Refusal: A value is not finite.
    """
    noise, buffer, filled = stream(os.urandom(32)), np.empty(CHUNK, dtype=np.uint32), 0
    if settings.noise:
        integers = noised(settings, num_clients, values[0], noise)
        for start in range(0, len(integers), CHUNK):
            yield integers[start : start + CHUNK].astype(np.int32).view(np.uint32)
        return
    left = residuals or [None] * len(values)
    for coder, array, rest in zip(coders(settings, num_clients), values, left, strict=True):
        share = weight / settings.weight_cap if coder.group.weighted else 1.0
        for piece in _pieces(coder, array, rest, share, noise):
            while len(piece):
                taken = min(len(piece), CHUNK - filled)
                buffer[filled : filled + taken] = piece[:taken]
                piece, filled = piece[taken:], filled + taken
                if filled == CHUNK:
                    yield buffer
                    filled = 0
    if filled:
        yield buffer[:filled]


def _pieces(
    coder: Coder, array: Values, rest: Values | None, share: float, noise: Stream
) -> Iterator[Ring]:
    """One group's ring elements, a chunk of values at a time."""
    bound, buffer = coder.group.bound, scratch()
    for start in range(0, len(array), CHUNK // 2):
        wanted = array[start : start + CHUNK // 2]
        finite = bool(np.isfinite(wanted).all())
        refuse_unless(finite, Reason.NOT_FINITE, f"{coder.group.name} holds a value not finite")
        if rest is not None:
            wanted = wanted + rest[start : start + CHUNK // 2]
        integers = coder.quantize(wanted, share, noise, buffer)
        if rest is not None:
            behind = wanted - integers / (coder.scale * share)
            rest[start : start + CHUNK // 2] = np.clip(behind, -bound, bound)
        yield coder.to_ring(integers)


def noised(settings: Settings, num_clients: int, values: Values, noise: Stream) -> Integers:
    """The one vector under differential privacy: shortened to the clip, rounded, and a share of
    noise added.

    Raises:
        Refusal: A value is not finite.
    """
    (coder,) = coders(settings, num_clients)
    finite = bool(np.isfinite(values).all())
    refuse_unless(finite, Reason.NOT_FINITE, f"{coder.group.name} holds a value not finite")
    scaled = values.astype(np.float64) * coder.scale
    length = float(np.linalg.norm(scaled))
    if length > coder.largest:
        scaled *= coder.largest / length
    longest = rounded_length(float(coder.largest), len(scaled))
    honest = honest_survivors(num_clients, threshold_of(num_clients))
    share = (settings.noise * longest) ** 2 / honest
    made = rounded(scaled, longest, noise)
    made += skellam(len(made), share, noise)
    return made


def decode(settings: Settings, num_clients: int, total: Ring) -> list[Values]:
    """The sums of the clients' values, one flat float32 array a group.

    Args:
        settings: Groups and ring.
        num_clients: Of the cohort, as encoded; not the survivors.
        total: Sum of the clients' ring elements, modulo 2^r or above; used up, for the sums take
            its place in memory.

    Returns:
        Sums; those of weighted groups are of weight / cap * value.
    """
    sums, start = [], 0
    for coder in coders(settings, num_clients):
        stop = start + coder.group.num_elements
        first = range(start, stop, CHUNK)
        parts = [coder.from_sum(total[i : min(i + CHUNK, stop)], settings.bits) for i in first]
        whole = coder.group.limbs == 1 or not parts
        sums.append(total[start:stop].view(np.float32) if whole else np.concatenate(parts))
        start = stop
    return sums
