"""The One-Euro filter by time stamps: smooth while slow, prompt while fast; knows no future.

Source: Casiez, Roussel and Vogel, "1 Euro Filter" (CHI 2012), equations 1 to 9.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

CUTOFF, SLOPE = 1.2, 0.6  # hertz; hertz per unit a second (metres, radians)
SPEED_CUTOFF = 1.0  # hertz
LONGEST_GAP = 0.5  # seconds without a value after which the filter begins anew


class OneEuro:
    """Smooths arrays of one shape, one entry each with its neighbors of the last axis."""

    def __init__(self, cutoff: float = CUTOFF, slope: float = SLOPE) -> None:
        self._cutoff, self._slope = cutoff, slope
        self._time = -np.inf

    def __call__(self, values: Float[ndarray, "*rest 3"], time: float) -> Float[ndarray, "*rest 3"]:
        """The smoothed values of this moment."""
        gap = time - self._time
        if gap > LONGEST_GAP:
            self._value, self._speed = values, np.zeros_like(values)
        elif gap > 0:
            self._advance(self._difference(values), gap)
        self._time = max(time, self._time)
        return self._value

    def _difference(self, values: ndarray) -> ndarray:
        return values - self._value

    def _move(self, step: ndarray) -> None:
        self._value = self._value + step

    def _advance(self, difference: ndarray, gap: float) -> None:
        share = _share(SPEED_CUTOFF, gap)
        self._speed = self._speed + share * (difference / gap - self._speed)
        fast = np.linalg.norm(self._speed, axis=-1, keepdims=True)
        self._move(_share(self._cutoff + self._slope * fast, gap) * difference)


class OneEuroTurns(OneEuro):
    """Smooths rotation vectors along the shortest turns; values are (*rest, 3) radians."""

    def _difference(self, values: ndarray) -> ndarray:
        flat, last = values.reshape(-1, 3), self._value.reshape(-1, 3)
        turn = Rotation.from_rotvec(last).inv() * Rotation.from_rotvec(flat)
        return turn.as_rotvec().reshape(values.shape)

    def _move(self, step: ndarray) -> None:
        turn = Rotation.from_rotvec(step.reshape(-1, 3))
        last = Rotation.from_rotvec(self._value.reshape(-1, 3))
        self._value = (last * turn).as_rotvec().reshape(step.shape)


def _share(cutoff: float | Float[ndarray, "*rest 1"], gap: float):
    """Of the way to the new value that a low pass of a cutoff goes in a time."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * gap))
