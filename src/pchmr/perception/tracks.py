"""Who is who over the frames of a clip: numbers that survive a crossing and an occlusion.

A person is where their last pose leads at an even speed of the body's middle; the longer ago it was
seen, the wider it may be missed. Poses alone decide: no face, no clothes, nothing that could find a
person again in another clip. Who turns away may be seen with left and right exchanged from one
frame to the next, and is the same person still. Times count, not frames; after `MEMORY_SECONDS`
without a sight, and so after a longer pause of the clip, a number is never given again.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from pchmr.perception.detection import LEAST_CONFIDENCE, LEAST_SEEN
from pchmr.perception.people import SPREAD

MEMORY_SECONDS = 1.5
DRIFT = 0.35  # sizes a second by which a person leaves their predicted path
LEAST_LIKELY = 0.15  # similarity below which a pose is nobody's that is known
LARGEST_RATIO = 1.8  # of sizes of one person, seen `MEMORY_SECONDS` apart or less
SPEED_SECONDS = 0.15  # over which the speed of a body's middle is averaged
FASTEST = 6.0  # sizes a second
NOT_A_MATCH = 1e6


@dataclass(frozen=True, kw_only=True)
class Track:
    """A person who was seen.

    Attributes:
        number: Of the person, within one clip.
        limbs: Pixels of shoulders to ankles and their confidence, when last seen.
        speed: Of the body's middle, pixels a second.
        size: Of the person, pixels.
        time: When last seen, seconds.
        begun: When first seen.
    """

    number: int
    limbs: Float[ndarray, "limbs 3"]
    speed: Float[ndarray, "2"]
    size: float
    time: float
    begun: float


class Tracker:
    """Gives the poses of one clip, frame by frame, the numbers of their people."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._next = 1

    def update(self, limbs: Float[ndarray, "people limbs 3"], time: float) -> list[int]:
        """Numbers of the people of a frame, in their order; new people get new numbers.

        Args:
            limbs: Pixels and confidence of each person's shoulders to ankles.
            time: Of the frame in seconds, later than the frame before.
        """
        self.tracks = [t for t in self.tracks if time - t.time <= MEMORY_SECONDS]
        sizes = [size_of(pose) for pose in limbs]
        chosen = _assigned(self.tracks, limbs, sizes, time)
        numbers = []
        for row, (pose, size) in enumerate(zip(limbs, sizes, strict=True)):
            old = chosen.get(row)
            if old is None:
                self.tracks.append(_begun(self._next, pose, size, time))
                self._next += 1
                numbers.append(self._next - 1)
            else:
                self.tracks[old] = _moved(self.tracks[old], pose, size, time)
                numbers.append(self.tracks[old].number)
        return numbers


def _begun(number: int, pose: ndarray, size: float, time: float) -> Track:
    still = np.zeros(2)
    return Track(number=number, limbs=pose, speed=still, size=size, time=time, begun=time)


def _moved(track: Track, pose: ndarray, size: float, time: float) -> Track:
    """The track after its person was seen again; limbs that are not seen go on with the body."""
    gap = max(time - track.time, 1e-6)
    both = _seen(track.limbs) & _seen(pose)
    share = 1 - np.exp(-gap / SPEED_SECONDS)
    speed = track.speed
    if both.any():
        step = (pose[both, :2] - track.limbs[both, :2]).mean(axis=0) / gap
        length = float(np.hypot(*step))
        step = step * min(1.0, FASTEST * size / max(length, 1e-9))
        fresh = track.time == track.begun
        speed = step if fresh else speed + share * (step - speed)
    limbs = np.where(_seen(pose)[:, None], pose, _predicted(track, time))
    return replace(track, limbs=limbs, speed=speed, size=size, time=time)


def _predicted(track: Track, time: float) -> Float[ndarray, "limbs 3"]:
    """Where the limbs are at an even speed; the confidence stays."""
    moved = track.limbs.copy()
    moved[:, :2] += track.speed * (time - track.time)
    return moved


def _assigned(
    tracks: list[Track], limbs: ndarray, sizes: list[float], time: float
) -> dict[int, int]:
    """Row of each pose that is a known person's -> position of the track; the likeliest set."""
    if not tracks or not len(limbs):
        return {}
    cost = np.full((len(limbs), len(tracks)), NOT_A_MATCH)
    for row, (pose, size) in enumerate(zip(limbs, sizes, strict=True)):
        for column, track in enumerate(tracks):
            cost[row, column] = _cost(track, pose, size, time)
    rows, columns = linear_sum_assignment(cost)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if cost[row, column] < NOT_A_MATCH}


def _cost(track: Track, pose: ndarray, size: float, time: float) -> float:
    """Minus the log of how likely the pose is the track's, of a density that widens with time."""
    ratio = _ratio(track.limbs, pose)
    if ratio > LARGEST_RATIO:
        return NOT_A_MATCH
    spread = SPREAD + DRIFT * (time - track.time)
    expected, width = _predicted(track, time), spread * (size * track.size) ** 0.5
    alike = max(likeness(expected, way, width) for way in (pose, _exchanged(pose)))
    if alike < LEAST_LIKELY:
        return NOT_A_MATCH
    return -np.log(alike) + 2 * np.log(spread / SPREAD) + np.log(ratio)


def _exchanged(pose: Float[ndarray, "limbs 3"]) -> Float[ndarray, "limbs 3"]:
    """The pose with left and right exchanged: limbs come in pairs."""
    return pose.reshape(-1, 2, 3)[:, ::-1].reshape(-1, 3)


def likeness(a: Float[ndarray, "limbs 3"], b: Float[ndarray, "limbs 3"], spread: float) -> float:
    """Mean similarity in [0, 1] of the limbs that both poses show, of all where they show few."""
    both = _seen(a) & _seen(b)
    if both.sum() < LEAST_SEEN:
        both[:] = True
    squared = ((a[both, :2] - b[both, :2]) ** 2).sum(axis=-1)
    return float(np.exp(-squared / (2 * spread**2)).mean())


def _ratio(a: Float[ndarray, "limbs 3"], b: Float[ndarray, "limbs 3"]) -> float:
    """How much larger one pose is than the other, by the limbs that both show; 1 or more."""
    both = _seen(a) & _seen(b)
    if both.sum() < LEAST_SEEN:
        return 1.0
    first, second = (max(float(np.ptp(pose[both, :2], axis=0).sum()), 1.0) for pose in (a, b))
    return max(first, second) / min(first, second)


def size_of(pose: Float[ndarray, "limbs 3"]) -> float:
    """Size of a person in pixels: half the sum of the extents of the limbs that are seen."""
    seen = pose[_seen(pose), :2]
    points = seen if len(seen) >= LEAST_SEEN else pose[:, :2]
    return max(float(np.ptp(points, axis=0).sum()) / 2, 1.0)


def _seen(pose: ndarray) -> ndarray:
    return np.nan_to_num(pose[:, 2]) > LEAST_CONFIDENCE
