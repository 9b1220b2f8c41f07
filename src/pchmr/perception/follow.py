"""Everybody in the frames of a clip, cheaply: who was seen is followed, the detector looks rarely.

A person is looked for where their own last landmarks lead (BlazePose's two further points; its
paper, section 3). The detector looks where nobody is known, soon after somebody was lost, and now
and then for who has come. Who is who over the frames is the business of `tracks`.
"""

from typing import Protocol, runtime_checkable

from pchmr.perception.interfaces import Image
from pchmr.perception.people import SeenPerson, without_doubles

LOOK_SECONDS = 1.0  # between looks for who has come
LOST_SECONDS = 0.2  # between looks for who was lost
MISSED_SECONDS = 2.0  # for which somebody who was lost is looked for


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
        self._looked = self._lost = float("-inf")

    def people(self, image: Image, time: float) -> list[SeenPerson]:
        """Everybody in the next frame.

        Args:
            image: The frame.
            time: When it was taken, seconds.
        """
        found = [self._prior.follow(image, last) for last in self._last]
        people = without_doubles([p for p in found if p is not None], self._prior.names)
        if len(people) < len(self._last):
            self._lost = time
        if not people or time - self._looked >= self._patience(time):
            self._looked = time
            self.num_looks += 1
            people = without_doubles(people + self._prior.people(image), self._prior.names)
        self._last = people
        return people

    def _patience(self, time: float) -> float:
        """Seconds from one look of the detector to the next."""
        return LOST_SECONDS if time - self._lost <= MISSED_SECONDS else LOOK_SECONDS
