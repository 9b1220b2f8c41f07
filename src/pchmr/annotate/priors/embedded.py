"""The embedded prior: our own small network, shipped with the package; pictures alone suffice.

It was trained on rendered people only (see its card beside the weights), so it is a start for
everyone and no rival of a foundation model. `find` is the detector that goes with it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.priors.crops import Crop, mirror_rows
from pchmr.annotate.priors.interfaces import (
    Box,
    Image,
    KeypointPrior,
    PersonPrior,
    PersonView,
    Provenance,
    weights_sha256,
)
from pchmr.annotate.priors.network import IMAGE_SIZE, NAMES, Seen, load_network

WEIGHTS = Path(__file__).parents[1] / "assets" / "prior_v1.safetensors"
LICENSE = "Apache-2.0"
NEAR = 0.1  # of half a crop: what confidence is the probability of
LEAST_CONFIDENCE = 0.3
NUM_LOOKS = 2
LEAST_BOX = 24.0  # pixels
PADDING = 1.25
WINDOWS = (0.75, 0.5)  # sides of squares, of the picture's longer side
ALSO = 0.85  # of the surest person's confidence that another person needs
SAME = 0.3  # overlap from which two boxes hold one person
BORDER = 0.06  # of the keypoints' extent that skin and clothes reach beyond it


class Embedded:
    """Keypoints with their spreads and relative depth, from one crop and its mirror image."""

    names = NAMES

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.network = load_network(weights)
        self.mirror = list(mirror_rows(self.names))
        self.provenance = Provenance(
            name="embedded", license=LICENSE, sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        return self.look(image, box).keypoints

    def look(self, image: Image, box: Box) -> PersonView:
        """See `PersonPrior`; confidence: the chance to lie within a twentieth of the crop."""
        crop = Crop.around(box, IMAGE_SIZE, IMAGE_SIZE)
        pixels = crop.cut(image)[None] / 255
        with torch.inference_mode():
            seen = self.network(torch.cat([pixels, pixels.flip(-1)]))
        places, depths, place_spread, depth_spread = (v.double().numpy() for v in self._both(seen))
        confidence = 1 - np.exp(-NEAR / place_spread)
        confidence = np.where(confidence < LEAST_CONFIDENCE, 0.0, confidence)
        found = crop.corner + (places + 1) / 2 * crop.size
        return PersonView(
            keypoints=np.concatenate([found, confidence[:, None]], axis=-1),
            sigma=np.sqrt(2) * place_spread * crop.size[0] / 2,
            depth=depths,
            depth_sigma=np.sqrt(2) * depth_spread,
        )

    def _both(self, seen: Seen) -> tuple[torch.Tensor, ...]:
        """Means over the crop and its mirror image, turned back."""
        sign = torch.tensor([-1.0, 1.0])
        values = (seen.places, seen.depths, seen.place_spread, seen.depth_spread)
        turned = [value[1][self.mirror] for value in values]
        turned[0] = turned[0] * sign
        return tuple((v[0] + t) / 2 for v, t in zip(values, turned, strict=True))


def find(prior: KeypointPrior, image: Image) -> list[Box]:
    """Where people are, the surest first: the whole picture is looked at, then closer.

    A prior that is quick and knows its own errors looks at windows of a large picture too, and so
    finds small people and several. Where too little is seen: the whole picture.
    """
    height, width = image.shape[:2]
    whole = Box(x=0.0, y=0.0, width=float(width), height=float(height))
    places = [whole]
    if isinstance(prior, PersonPrior) and min(width, height) >= 2 * IMAGE_SIZE:
        places += windows(width, height)
    views = sorted((_glance(prior, image, place) for place in places), key=lambda v: -v[0])
    found: list[tuple[float, Box]] = []
    for sure, box in views:
        if box is None or (found and sure < ALSO * found[0][0]):
            continue
        for _ in range(NUM_LOOKS - 1):
            sure, closer = _glance(prior, image, box)
            box = closer or box
        least = ALSO * found[0][0] if found else 0.0
        if sure >= least and all(overlap(box, other) < SAME for _, other in found):
            found.append((sure, box))
    return [box for _, box in found] or [whole]


def _glance(prior: KeypointPrior, image: Image, place: Box) -> tuple[float, Box | None]:
    """Mean confidence of the keypoints seen in a place, and the box around them."""
    keypoints = prior.keypoints(image, place)
    return float(np.nan_to_num(keypoints[:, 2]).mean()), box_of(keypoints)


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
    if len(seen) < 4:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    border = BORDER * float((high - low).max())
    low, high = low - border, high + border
    if (high - low).max() < LEAST_BOX:
        return None
    (x, y), (width, height) = low, high - low
    return Box(x=float(x), y=float(y), width=float(width), height=float(height))
