"""Everybody in the frames of a clip, cheaply: who was seen is followed, the detector looks rarely.

A person is looked for where their own last landmarks lead (BlazePose's two further points; its
paper, section 3). The detector looks where nobody is known, soon after somebody was lost, and now
and then for who has come. Who is who over the frames is the business of `tracks`.

Of who is seen from behind or turns, the network may exchange left and right, and so front and back,
from one frame to the next. Nobody turns round that fast: they are told as before, until the network
has held its word for a while.
"""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from pchmr.body.joints import mirror_name
from pchmr.perception.interfaces import Image
from pchmr.perception.people import LIMBS, SPREAD, SeenPerson, without_doubles
from pchmr.perception.tracks import likeness, size_of

LOOK_SECONDS = 1.0  # between looks for who has come
LOST_SECONDS = 0.2  # between looks for who was lost
MISSED_SECONDS = 2.0  # for which somebody who was lost is looked for
TURN_SECONDS = 0.15  # in which nobody turns round
BELIEVED_SECONDS = 0.4  # for which left and right must stay exchanged to be believed
CLEARLY = 0.2  # of similarity, by which an exchanged pose must be nearer to that before
BACK = np.array([1.0, 1.0, -1.0])  # what was seen as the front is the back


@runtime_checkable
class Follows(Protocol):
    """A prior that finds everybody, and follows one person without its detector."""

    names: tuple[str, ...]

    def people(self, image: Image) -> list[SeenPerson]:
        """Everybody in a picture, the surest first."""
        ...

    def follow(self, image: Image, last: SeenPerson) -> SeenPerson | None:
        """Somebody of the frame before; None where they are lost."""
        ...


class Follower:
    """The people of the frames of one clip, in order.

    Attributes:
        num_looks: Frames at which the detector looked.
    """

    def __init__(self, prior: Follows) -> None:
        self._prior = prior
        self.num_looks = 0
        self.forget()

    def forget(self) -> None:
        """Starts anew: the next frame is looked at as the first one is."""
        self._last: list[SeenPerson] = []
        self._since: dict[int, float] = {}  # when sides began to be exchanged, by `id` of a person
        self._looked = self._lost = self._time = float("-inf")

    def people(self, image: Image, time: float) -> list[SeenPerson]:
        """Everybody in the next frame.

        Args:
            image: The frame.
            time: When it was taken, seconds.
        """
        pairs = [(last, self._prior.follow(image, last)) for last in self._last]
        found = [self._steady(last, now, time) for last, now in pairs if now is not None]
        people = without_doubles(found, self._prior.names)
        if len(people) < len(self._last):
            self._lost = time
        if not people or time - self._looked >= self._patience(time):
            self._looked = time
            self.num_looks += 1
            people = without_doubles(people + self._prior.people(image), self._prior.names)
        self._last, self._time = people, time
        self._since = {id(p): self._since[id(p)] for p in people if id(p) in self._since}
        return people

    def _steady(self, last: SeenPerson, now: SeenPerson, time: float) -> SeenPerson:
        """Who was seen before, with left and right where they were; see the module's text."""
        other = exchanged(now, self._prior.names)
        rows = [self._prior.names.index(name) for name in LIMBS]
        before, seen, turned = (p.keypoints[rows] for p in (last, now, other))
        width = SPREAD * size_of(before)
        nearer = likeness(before, turned, width) - likeness(before, seen, width)
        since = self._since.get(id(last), time)
        if nearer <= CLEARLY or time - self._time > TURN_SECONDS or time - since > BELIEVED_SECONDS:
            return now
        self._since[id(other)] = since
        return other

    def _patience(self, time: float) -> float:
        """Seconds from one look of the detector to the next."""
        return LOST_SECONDS if time - self._lost <= MISSED_SECONDS else LOOK_SECONDS


def exchanged(person: SeenPerson, names: tuple[str, ...]) -> SeenPerson:
    """The person with left and right exchanged, and front and back with them."""
    rows = [names.index(mirror_name(name)) for name in names]
    mirrored = None if person.mirror_world is None else person.mirror_world[rows] * BACK
    return replace(
        person,
        keypoints=person.keypoints[rows],
        world=person.world[rows] * BACK,
        mirror_world=mirrored,
    )
