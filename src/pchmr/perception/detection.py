"""Where people are, by the embedded network: it looks at the whole picture and at windows of it.

What it was trained on always showed a person, so its confidence alone says little about whether
there is one: `Presence` weighs how sure it is, how sharp its maps are, and whether the mirror image
tells the same. A box counts where a second, closer look at it shows a person too.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.door import read_json
from pchmr.perception.boxes import whole
from pchmr.perception.interfaces import Box, Detector, Image, KeypointPrior, PersonPrior
from pchmr.runs import shipped

PRESENCE = Path(__file__).parent / "assets" / "presence_v1.json"
PRESENT = 0.7  # chance from which a crop shows a person, and one more beside the surest
WORTH_A_LOOK = 0.05  # chance on the first, wider look
LEAST_CONFIDENCE = 0.3
LEAST_SEEN = 4
LEAST_BOX = 24.0  # pixels
PADDING = 1.25
WINDOWS = (0.75, 0.5)  # sides of squares, of the picture's longer side
LEAST_WINDOWED = 224  # pixels of the shorter side from which windows are looked at
SAME = 0.3  # overlap from which two boxes hold one person
ALSO = 0.85  # of the surest person's confidence that another person needs
SAME_SEEN = 0.5  # overlap of what a keypoint prior sees in two boxes from which it is one person
BORDER = 0.06  # of the keypoints' extent that skin and clothes reach beyond it


@dataclass(frozen=True)
class Presence:
    """Chance that a crop shows a person, a logistic function of the network's own signals.

    Attributes:
        mean: Of the signals, where the function was fitted.
        sd: Of the signals.
        slope: Per standard deviation; the last entry is the level.
    """

    mean: Float[ndarray, " signals"]
    sd: Float[ndarray, " signals"]
    slope: Float[ndarray, " weights"]

    def chance(self, signals: Float[ndarray, " signals"]) -> float:
        """Between 0 and 1."""
        score = float((signals - self.mean) / self.sd @ self.slope[:-1] + self.slope[-1])
        return 1 / (1 + math.exp(-min(max(score, -50.0), 50.0)))


def fit_presence(
    people: Float[ndarray, "people signals"], empty: Float[ndarray, "empty signals"]
) -> Presence:
    """Logistic regression, both kinds of crops weighing the same, lightly damped."""
    table = np.concatenate([people, empty])
    truth = np.repeat([1.0, 0.0], [len(people), len(empty)])
    weight = np.where(truth > 0, 0.5 / len(people), 0.5 / len(empty)) * len(table)
    mean, sd = table.mean(axis=0), table.std(axis=0)
    design = np.concatenate([(table - mean) / sd, np.ones((len(table), 1))], axis=1)
    slope = np.zeros(design.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ slope))
        curve = weight * chance * (1 - chance)
        normal = (curve[:, None] * design).T @ design + np.eye(len(slope))
        slope += np.linalg.solve(normal, design.T @ (weight * (truth - chance)) - slope)
    return Presence(mean, sd, slope)


def load_presence(path: Path = PRESENCE) -> Presence:
    """The shipped function."""
    table = read_json(shipped(path))
    return Presence(*(np.array(table[name]) for name in ("mean", "sd", "slope")))


@dataclass(frozen=True)
class PeopleFinder:
    """A `Detector` made of a prior that knows whether it sees a person."""

    prior: PersonPrior

    def detect(self, image: Image) -> list[Box]:
        """See `Detector`; empty where nobody is seen."""
        height, width = image.shape[:2]
        places = [Box(x=0.0, y=0.0, width=float(width), height=float(height))]
        if min(width, height) >= LEAST_WINDOWED:
            places += windows(width, height)
        glances = [self._glance(image, place) for place in places]
        closer = [
            self._glance(image, box)
            for chance, box in sorted(glances, key=lambda glance: -glance[0])
            if box is not None and chance >= WORTH_A_LOOK
        ]
        found: list[Box] = []
        for chance, box in sorted(closer, key=lambda glance: -glance[0]):
            if box is None or chance < PRESENT:
                continue
            if all(overlap(box, other) < SAME for other in found):
                found.append(box)
        return found

    def shows(self, image: Image, box: Box) -> bool:
        """Whether a person is in the box, say the one of the frame before."""
        return self.prior.look(image, box).presence >= PRESENT

    def _glance(self, image: Image, place: Box) -> tuple[float, Box | None]:
        """Chance that a place shows a person, and the box around the keypoints seen there."""
        view = self.prior.look(image, place)
        return view.presence, box_of(view.keypoints)


def find_people(image: Image, prior: KeypointPrior, detector: Detector | None) -> list[Box]:
    """Boxes of the people in a picture, the surest first: what every verb looks for people with.

    What the detector finds is looked at by the keypoint prior, which has the last word where
    it is another network: who it sees less surely is not there, and where the detector sees
    nobody, it looks at the whole picture itself.
    """
    boxes = [] if detector is None else detector.detect(image)
    if isinstance(prior, PersonPrior) or detector is prior:
        return boxes
    seen = [look_closer(image, box, prior) for box in boxes or [whole(image)]]
    most = max(sure for sure, _ in seen)
    found: list[Box] = []
    for sure, box in sorted(seen, key=lambda pair: -pair[0]):
        if sure >= ALSO * most and all(overlap(box, other) < SAME_SEEN for other in found):
            found.append(box)
    return found


def look_closer(image: Image, box: Box, prior: KeypointPrior) -> tuple[float, Box]:
    """How surely a keypoint prior sees someone in a box, and its own box around them."""
    keypoints = prior.keypoints(image, box)
    return float(np.nan_to_num(keypoints[:, 2]).mean()), box_of(keypoints) or box


def windows(width: int, height: int) -> list[Box]:
    """Squares over a picture, each overlapping the next by half; as boxes that crops will pad."""
    found = []
    for share in WINDOWS:
        side = share * max(width, height)
        for x in _steps(width, side):
            for y in _steps(height, side):
                inner = side / PADDING
                found.append(Box(x=x - inner / 2, y=y - inner / 2, width=inner, height=inner))
    return found


def _steps(length: int, side: float) -> list[float]:
    """Middles of windows along an axis."""
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side / 2)) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def overlap(a: Box, b: Box) -> float:
    """Area that two boxes share, over the smaller one's."""
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(across, 0.0) * max(down, 0.0) / min(a.width * a.height, b.width * b.height)


def box_of(keypoints: Float[ndarray, "keypoints 3"]) -> Box | None:
    """A box around the keypoints that were seen; None where they are too few or too close."""
    seen = keypoints[np.nan_to_num(keypoints[:, 2]) > LEAST_CONFIDENCE, :2]
    if len(seen) < LEAST_SEEN:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    border = BORDER * float((high - low).max())
    low, high = low - border, high + border
    if (high - low).max() < LEAST_BOX:
        return None
    (x, y), (width, height) = low, high - low
    return Box(x=float(x), y=float(y), width=float(width), height=float(height))
