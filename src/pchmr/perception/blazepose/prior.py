"""The photo-trained prior: who is in a picture, and 33 named points of each, in 2D and in space.

What the detector finds (`places`) is looked at twice by the landmark network, in a crop that is
turned with the body, and once in the mirror image: `proof` tells people from cats and cups. Where
several are found, they are painted over, and who stood behind them is looked for (`painted`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.perception.blazepose.detector import Detection, detect
from pchmr.perception.blazepose.landmarks import NAMES, Landmarks, look, look_twice, sound
from pchmr.perception.blazepose.networks import NAME, open_network
from pchmr.perception.blazepose.painted import is_ghost, painted_over, places_of
from pchmr.perception.blazepose.places import places, wide_places
from pchmr.perception.blazepose.proof import MIRROR, load_proof, signals
from pchmr.perception.detection import box_of
from pchmr.perception.fetched import DETECTOR, FETCHED, LANDMARKS
from pchmr.perception.interfaces import Box, Image, Provenance
from pchmr.perception.people import SeenPerson, without_doubles
from pchmr.perception.turned import TurnedCrop

PRESENT = 0.5  # person flag from which a crop shows somebody
PROVEN = 0.5  # chance from which a find is a person
ALONE = 0.75  # of who is looked for more widely, where nobody was found at first
SURELY = 0.9  # of who is found only in a painted picture
ROUNDS = 2  # of painting over
AROUND = 1.6  # of a box's longer side: the window in which a person of the box is looked for
BOX_PADDING = 1.25


class BlazePose:
    """A `KeypointPrior` and a `Detector`, which also tells masks and points in space."""

    names = NAMES
    mirror = MIRROR

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
        self.proof = load_proof()
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
        found = self._true(image, places(self.detector, image), PROVEN)
        if found:
            return self._with_hidden(image, found)
        for find in wide_places(self.detector, image):
            if found := self._true(image, [find], ALONE):
                break
        return found

    def _with_hidden(self, image: Image, found: list[SeenPerson]) -> list[SeenPerson]:
        """People, and those who are seen once they are painted over; again where there are some."""
        for _ in range(ROUNDS):
            painted = places_of(found, *image.shape[:2])
            rest = painted_over(image, painted)
            more = self._true(rest, places(self.detector, rest), SURELY)
            more = [one for one in more if not is_ghost(one, painted)]
            everybody = without_doubles([*found, *more], self.names)
            if len(everybody) <= len(found):
                break
            found = everybody
        return found

    def _true(self, image: Image, finds: Sequence[Detection], least: float) -> list[SeenPerson]:
        """The people of some finds, each once, without those who are none."""
        seen = [self.closer(image, find) for find in finds]
        people = without_doubles([one for one in seen if one is not None], self.names)
        proven = [self.proven(image, one) for one in people]
        return [one for one, signs in proven if self.proof.chance(signs) >= least]

    def closer(self, image: Image, find: Detection) -> SeenPerson | None:
        """Who is seen where the detector found somebody."""
        marks = self._look(image, find.crop)
        box = box_of(_inside(marks.points, image))
        if marks.presence < PRESENT or box is None:
            return None
        return replace(self._person(image, marks, box), detected=find.score)

    def proven(
        self, image: Image, person: SeenPerson
    ) -> tuple[SeenPerson, Float[ndarray, " signals"]]:
        """A person with what the mirror image shows of them, and what speaks for them; `proof`."""
        marks = self._in_mirror(image, person)
        world = marks.world[list(MIRROR)] * [-1, 1, 1]
        return replace(person, mirror_world=world), signals(person, marks, image.shape[1])

    def follow(self, image: Image, last: SeenPerson) -> SeenPerson | None:
        """Somebody of the frame before, by one pass and no detector; None where they are lost."""
        if last.next_crop is None or not sound(last.next_crop, image):
            return None
        marks = look(self.network, image, last.next_crop)
        box = box_of(_inside(marks.points, image))
        if marks.presence < PRESENT or box is None:
            return None
        return self._person(image, marks, box)

    def mirrored(self, image: Image, person: SeenPerson) -> Float[ndarray, "keypoints 3"]:
        """See `PeoplePrior`."""
        if person.mirror_world is not None:
            return person.mirror_world
        return self._in_mirror(image, person).world[list(MIRROR)] * [-1, 1, 1]

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
