"""The photo-trained prior: who is in a picture, and 33 named points of each, in 2D and in space.

What the detector finds (`places`) is looked at twice by the landmark network, in a crop that is
turned with the body. Who is not seen surely must be seen in the mirror image too: of a cat, a cup
and flowers the two differ.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.body.joints import mirror_name
from pchmr.perception.blazepose.detector import detect
from pchmr.perception.blazepose.landmarks import NAMES, Landmarks, look, look_twice, sound
from pchmr.perception.blazepose.networks import NAME, open_network
from pchmr.perception.blazepose.places import places, wide_places
from pchmr.perception.detection import LEAST_CONFIDENCE, LEAST_SEEN, box_of
from pchmr.perception.fetched import DETECTOR, FETCHED, LANDMARKS
from pchmr.perception.interfaces import Box, Image, Provenance
from pchmr.perception.people import LIMBS, SeenPerson, similarity, without_doubles
from pchmr.perception.turned import TurnedCrop

SHOWN = 0.5  # chance from which a cell shows the person
PRESENT = 0.5  # person flag from which a crop shows somebody
AROUND = 1.6  # of a box's longer side: the window in which a person of the box is looked for
BOX_PADDING = 1.25


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the mirror image must show of somebody.

    Attributes:
        sure: Score from which a person needs no second word.
        presence: Person flag, at least.
        pose: Similarity of the two poses, at least.
        mask: Intersection over union of the two masks, at least.
    """

    sure: float
    presence: float
    pose: float
    mask: float


USUAL = Proof(sure=0.95, presence=PRESENT, pose=0.7, mask=0.6)
STRICT = Proof(sure=2.0, presence=0.8, pose=0.8, mask=0.85)
"""Of who was found only where nothing was found at first."""


class BlazePose:
    """A `KeypointPrior` and a `Detector`, which also tells masks and points in space."""

    names = NAMES
    mirror = tuple(NAMES.index(mirror_name(name)) for name in NAMES)

    def __init__(self, weights: Path | None = None, *, fast: bool | None = None) -> None:
        """Opens the fetched files.

        Args:
            weights: Their folder; without it, where `pchmr priors get` keeps them.
            fast: Whether onnxruntime runs them; without a word, where it is installed.

        Raises:
            PriorFileError: They are missing or other files.
        """
        self.detector = open_network(DETECTOR, weights, fast=fast)
        self.network = open_network(LANDMARKS, weights, fast=fast)
        prior = FETCHED[NAME]
        self.provenance = Provenance(
            name=NAME,
            version=f"{prior.package} {prior.version}",
            license=prior.license,
            sha256=prior.files[LANDMARKS].sha256,
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        return self.see(image, box).keypoints

    def see(self, image: Image, box: Box) -> SeenPerson:
        """The person in a box: the find around it that fits it best, else the box itself."""
        side = max(box.width, box.height)
        x, y = box.center
        finds = detect(self.detector, image, TurnedCrop(float(x), float(y), AROUND * side))
        crops = [find.crop for find in finds]
        if not crops:
            crops = [TurnedCrop(float(x), float(y), BOX_PADDING * side)]
        seen = [self._person(image, self._look(image, crop), box) for crop in crops]
        return max(seen, key=lambda person: _agreement(person.box, box))

    def people(self, image: Image) -> list[SeenPerson]:
        """Everybody who is seen in a picture, the surest first; empty where nobody is."""
        found = self._true(image, places(self.detector, image), USUAL)
        if not found:
            for crop in wide_places(self.detector, image):
                if found := self._true(image, [crop], STRICT):
                    break
        return found

    def _true(self, image: Image, crops: list[TurnedCrop], proof: Proof) -> list[SeenPerson]:
        """The people in some crops, each once, without those who are none."""
        people = [
            self._person(image, marks, box)
            for marks in (self._look(image, crop) for crop in crops)
            if marks.presence >= PRESENT
            and (box := box_of(_inside(marks.points, image))) is not None
        ]
        kept = without_doubles(people, self.names)
        return [p for p in kept if p.score >= proof.sure or self._proven(image, p, proof)]

    def follow(self, image: Image, last: SeenPerson) -> SeenPerson | None:
        """Somebody of the frame before, by one pass and no detector; None where they are lost."""
        if last.next_crop is None or not sound(last.next_crop, image):
            return None
        marks = look(self.network, image, last.next_crop)
        box = box_of(_inside(marks.points, image))
        if marks.presence < PRESENT or box is None:
            return None
        return self._person(image, marks, box)

    def _proven(self, image: Image, person: SeenPerson, proof: Proof) -> bool:
        """Whether the mirror image shows the same pose and mask, as it does of people."""
        marks = self._in_mirror(image, person)
        if marks.presence < proof.presence:
            return False
        shown, mirrored = person.cells >= SHOWN, marks.mask[:, ::-1] >= SHOWN
        if (shown & mirrored).sum() < proof.mask * (shown | mirrored).sum():
            return False
        points = marks.points[list(self.mirror), :2] * [-1, 1] + [image.shape[1], 0]
        limbs = [self.names.index(name) for name in LIMBS]
        seen = [row for row in limbs if person.keypoints[row, 2] > LEAST_CONFIDENCE]
        rows = seen if len(seen) >= LEAST_SEEN else limbs
        size = (person.box.width * person.box.height) ** 0.5
        return similarity(person.keypoints[rows, :2], points[rows], size) >= proof.pose

    def mirrored(self, image: Image, person: SeenPerson) -> Float[ndarray, "keypoints 3"]:
        """See `PeoplePrior`."""
        return self._in_mirror(image, person).world[list(self.mirror)] * [-1, 1, 1]

    def _in_mirror(self, image: Image, person: SeenPerson) -> Landmarks:
        """What is seen of the person in the mirror image."""
        crop = person.crop
        turned = TurnedCrop(image.shape[1] - crop.x, crop.y, crop.side, -crop.angle)
        return look(self.network, np.ascontiguousarray(image[:, ::-1]), turned)

    def detect(self, image: Image) -> list[Box]:
        """See `Detector`."""
        return [person.box for person in self.people(image)]

    def shows(self, image: Image, box: Box) -> bool:
        """See `Detector`."""
        return self.see(image, box).presence >= PRESENT

    def _look(self, image: Image, crop: TurnedCrop) -> Landmarks:
        return look_twice(self.network, image, crop, PRESENT)

    def _person(self, image: Image, marks: Landmarks, box: Box) -> SeenPerson:
        keypoints = _inside(marks.points, image)
        return SeenPerson(
            box=box_of(keypoints) or box,
            keypoints=keypoints,
            world=marks.world,
            presence=marks.presence,
            score=marks.score,
            crop=marks.crop,
            cells=marks.mask,
            next_crop=marks.next_crop,
        )


def _inside(points: Float[ndarray, "points 3"], image: Image) -> Float[ndarray, "points 3"]:
    """The points with no confidence in those that lie outside the picture."""
    size = np.array([image.shape[1], image.shape[0]])
    outside = ((points[:, :2] < 0) | (points[:, :2] > size)).any(axis=-1)
    found = points.copy()
    found[outside, 2] = 0.0
    return found


def _agreement(a: Box, b: Box) -> float:
    """Intersection over union."""
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)
