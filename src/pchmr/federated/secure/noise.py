"""Discrete noise in shares: what each client adds so that a sum is differentially private.

A client's vector is clipped in length, scaled to integers and rounded at random; a share of Skellam
noise (the difference of two Poisson variables) is added to every integer before the masks. Sums of
Skellam variables are Skellam variables, so the sum's noise is as if it had been added at once:
Agarwal, Kairouz and Liu 2021, arXiv 2110.04995. Shares are made for the fewest honest survivors, so
more survivors make more noise. The random bits are a cryptographic stream from the system's
randomness. What epsilon follows is in `federated/accounting.py`.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from pchmr.federated.secure.masks import Stream

TAIL = 12.0  # standard deviations for which the ring has room
MOST_DEVIATION = 2.0**20  # of a sum's noise: finer steps gain nothing, and their table is long
ROUNDING_BETA = math.exp(-0.5)  # at most this share of roundings is too long and drawn anew
_BITS = 2.0**-53

Integers = Int64[np.ndarray, " _"]


def honest_survivors(num_clients: int, threshold: int) -> int:
    """The fewest whose noise the server cannot know: t survivors, of whom n - t collude with it."""
    return max(1, 2 * threshold - num_clients)


def rounded_length(length: float, size: int) -> float:
    """The longest vector of `size` integers that a vector of that length is rounded to.

    Kairouz, Liu and Steinke 2021, arXiv 2102.06387, definition 1; longer roundings are drawn anew.
    """
    drift = math.sqrt(2 * math.log(1 / ROUNDING_BETA)) * (length + math.sqrt(size) / 2)
    return math.sqrt(min((length + math.sqrt(size)) ** 2, length**2 + size / 4 + drift))


def noisy_capacity(bits: int, num_clients: int, threshold: int, noise: float, size: int) -> int:
    """The integer that stands for the clip, so that sum and noise pass the ring with no client's
    probability worth a name (see `TAIL`), and no finer than `MOST_DEVIATION` asks for.
    """
    room = 2 ** (bits - 1) - 1
    spread = TAIL * noise * math.sqrt(num_clients / honest_survivors(num_clients, threshold))

    def fits(clip: int) -> bool:
        longest = rounded_length(float(clip), size)
        is_coarse = clip == 1 or noise * longest <= MOST_DEVIATION
        return is_coarse and num_clients * (clip + 1) + spread * longest <= room

    low, high = 0, room
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def rounded(scaled: Float64[np.ndarray, " _"], longest: float, noise: Stream) -> Integers:
    """Integers next to some values, at random and unbiased, whose length is at most `longest`."""
    while True:
        integers = np.floor(scaled + uniforms(len(scaled), noise))
        if float(np.dot(integers, integers)) <= longest**2:
            return integers.astype(np.int64)


def uniforms(count: int, noise: Stream) -> Float64[np.ndarray, " _"]:
    """Numbers in [0, 1) with 53 bits of a stream."""
    buffer, start = bytearray(8 * _PIECE + 15), 0
    made = np.empty(count)
    while start < count:
        size = min(_PIECE, count - start)
        noise(8 * size, buffer)
        drawn = np.frombuffer(buffer, dtype="<u8", count=size) >> np.uint64(11)
        made[start : start + size] = drawn.astype(np.float64) * _BITS
        start += size
    return made


_PIECE = 2**14  # what a mask's buffer of zeros allows at eight bytes a number


@lru_cache(maxsize=2)
def _cumulative(variance: float) -> tuple[Float64[np.ndarray, " _"], int]:
    """Cumulative probabilities of a Skellam variable out to `TAIL` deviations, and the first."""
    from scipy.special import ive  # half of a device's start, for messages that are mostly of keys

    far = math.ceil(TAIL * math.sqrt(variance)) + 32
    values = np.arange(-far, far + 1)
    if variance < 1e5:
        mass = ive(np.abs(values), variance)
    else:  # the scaled Bessel function underflows: its expansion for large arguments
        ratio = values.astype(np.float64) ** 2 / variance
        mass = np.exp(-ratio / 2 + (ratio**2 / 24 - ratio / 4 + 1 / 8) / variance)
    return np.cumsum(mass) / mass.sum(), -far


def skellam(count: int, variance: float, noise: Stream) -> Integers:
    """Draws of the difference of two Poisson variables of equal mean, by inverse transform.

    Args:
        count: How many.
        variance: Of one.
        noise: Cryptographic random bits.
    """
    table, first = _cumulative(variance)
    made = np.empty(count, dtype=np.int64)
    for start in range(0, count, _PIECE):
        size = min(_PIECE, count - start)
        found = np.searchsorted(table, uniforms(size, noise), side="right")
        made[start : start + size] = np.minimum(found, len(table) - 1) + first
    return made
