"""Following: the detector looks rarely, and finds who comes and who was lost."""

from pathlib import Path

import numpy as np
import pytest

from pchmr.perception.blazepose.landmarks import NAMES
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.follow import LOOK_SECONDS, Follower, exchanged
from pchmr.perception.interfaces import Box
from pchmr.perception.people import SeenPerson
from pchmr.perception.turned import TurnedCrop

BLANK = np.zeros((100, 400, 3), np.uint8)


def person(x: float) -> SeenPerson:
    pose = np.zeros((len(NAMES), 3))
    pose[:, 0], pose[:, 1], pose[:, 2] = x, np.linspace(0, 90, len(NAMES)), 1
    return SeenPerson(
        box=Box(x=x - 20, y=0.0, width=40.0, height=90.0),
        keypoints=pose,
        world=np.zeros((len(NAMES), 3)),
        presence=1.0,
        score=0.9,
        crop=TurnedCrop(x, 45.0, 100.0),
        cells=np.ones((4, 4)),
    )


class Stage:
    """A prior that sees whoever stands where a test says."""

    names = NAMES

    def __init__(self) -> None:
        self.places: list[float] = []

    def people(self, image: np.ndarray) -> list[SeenPerson]:
        return [person(x) for x in self.places]

    def follow(self, image: np.ndarray, last: SeenPerson) -> SeenPerson | None:
        near = [x for x in self.places if abs(x - last.crop.x) < 15]
        return person(near[0]) if near else None


def test_the_detector_looks_once_a_second_and_sees_who_comes() -> None:
    stage = Stage()
    follower = Follower(stage)
    stage.places = [50.0]
    for frame in range(25):
        assert len(follower.people(BLANK, frame / 30)) == 1
    assert follower.num_looks == 1
    stage.places = [50.0, 200.0]
    counts = [len(follower.people(BLANK, frame / 30)) for frame in range(25, 40)]
    assert counts[0] == 1 and counts[-1] == 2 and follower.num_looks == 2


def test_who_is_lost_is_looked_for_soon_and_an_empty_clip_at_every_frame() -> None:
    stage = Stage()
    follower = Follower(stage)
    assert [follower.people(BLANK, t / 30) for t in range(3)] == [[], [], []]
    assert follower.num_looks == 3
    stage.places = [50.0, 200.0]
    follower.people(BLANK, 0.1)
    follower.people(BLANK, 0.2 + LOOK_SECONDS)
    stage.places = [50.0]
    assert len(follower.people(BLANK, 1.25)) == 1
    stage.places = [50.0, 320.0]
    assert [len(follower.people(BLANK, 1.25 + t / 30)) for t in (1, 7)] == [1, 2]


def test_two_on_one_person_are_one() -> None:
    stage = Stage()
    follower = Follower(stage)
    stage.places = [50.0, 150.0]
    assert len(follower.people(BLANK, 0.0)) == 2
    stage.places = [100.0]
    follower._last = [person(95.0), person(105.0)]
    assert len(follower.people(BLANK, 0.1)) == 1


class Flickering(Stage):
    """Sees left and right exchanged in some frames."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self.pattern, self.frame = pattern, 0

    def follow(self, image: np.ndarray, last: SeenPerson) -> SeenPerson | None:
        self.frame += 1
        now = sided(50.0)
        return exchanged(now, NAMES) if self.pattern[self.frame] == "x" else now

    def people(self, image: np.ndarray) -> list[SeenPerson]:
        return [sided(50.0)]


def sided(x: float) -> SeenPerson:
    """Somebody whose left lies to the right in the picture, and whose left is farther away."""
    one = person(x)
    side = np.array([name.startswith("left") - name.startswith("right") for name in NAMES])
    one.keypoints[:, 0] += 15 * side
    one.world[:, 2] = side
    return one


def test_sides_that_flicker_stay_and_those_that_hold_are_believed() -> None:
    wrist, pattern = NAMES.index("left_wrist"), "..x.x.xxx..." + "x" * 18
    follower = Follower(Flickering(pattern))
    told = [follower.people(BLANK, frame / 30)[0] for frame in range(len(pattern))]
    sides = [one.keypoints[wrist, 0] > 50 for one in told]
    assert all(sides[:20]) and not any(sides[-4:])
    assert {float(one.world[wrist, 2]) for one in told} == {1.0}  # front and back go along


@pytest.mark.priors
def test_a_still_clip_is_followed_without_the_detector(blazepose: Path, shared: Path) -> None:
    from pchmr.data.photos import read_photo

    picture = read_photo(shared / "photos" / "person.jpg").pixels
    follower = Follower(BlazePose(blazepose))
    frames = [follower.people(picture, t / 30) for t in range(4)]
    assert [len(people) for people in frames] == [1] * 4 and follower.num_looks == 1
    first, last = frames[0][0].keypoints, frames[-1][0].keypoints
    assert np.abs(first - last)[:, :2].mean() < 0.02 * frames[0][0].box.height
