"""Scores of finds against exact labels, by hand; and the check's row with the fetched network."""

from pathlib import Path

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.perception.blazepose.landmarks import NAMES
from pchmr.perception.interfaces import Box
from pchmr.perception.people import LIMBS, SeenPerson
from pchmr.perception.realism import of_truth, realism
from pchmr.perception.turned import TurnedCrop
from pchmr.worlds import asked, pictures_of

PICTURE = np.zeros((200, 200, 3), np.uint8)


def truth() -> np.ndarray:
    """Joints down a person of 100 x 150 pixels, all inside."""
    joints = np.ones((14, 3))
    joints[:, 0], joints[:, 1] = np.linspace(50, 150, 14), np.linspace(20, 170, 14)
    return joints


def find(shift: float, wrong: int = 0) -> SeenPerson:
    """The labeled person seen aside by some pixels, with some limbs far off."""
    labels, keypoints = truth(), np.ones((33, 3))
    for number, name in enumerate(LIMBS):
        keypoints[NAMES.index(name), :2] = labels[EVALUATION_14.index(name), :2] + [shift, 0]
        if number < wrong:
            keypoints[NAMES.index(name), :2] += 60
    return SeenPerson(
        box=Box(x=50.0 + shift, y=20.0, width=100.0, height=150.0), keypoints=keypoints,
        world=np.zeros((33, 3)), presence=1.0, score=1.0,
        crop=TurnedCrop(100.0, 95.0, 150.0), cells=np.ones((4, 4)),
    )  # fmt: skip


def test_found_extra_and_near_are_counted() -> None:
    answers = iter([[find(5.0)], [], [find(180.0), find(0.0, wrong=6)], [find(170.0)]])
    found = realism(lambda _: next(answers), NAMES, [(PICTURE, truth())] * 4)
    assert (found.num_people, found.found, found.extra) == (4, 0.5, 0.5)
    assert found.pck == pytest.approx((12 + 6) / 24)


def test_nobody_found_has_no_places() -> None:
    found = realism(lambda _: [], NAMES, [(PICTURE, truth())])
    assert found.found == 0 and np.isnan(found.pck)
    assert of_truth([find(0.0)], truth() * [1, 1, 0]) is None


def test_pictures_come_with_joints_in_pixels(body: BodyModel, tmp_path: Path) -> None:
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=2, image_size=64, seed=5)
    for image, joints in pictures_of(SyntheticPeople(recipe, body, tmp_path)):
        inside = joints[joints[:, 2] > 0, :2]
        assert image.shape == (64, 64, 3) and len(inside) > 4
        assert inside.min() >= 0 and 20 < inside.max() <= 64


def test_without_the_network_the_check_says_how_to_get_it(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path))
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=2, image_size=64, seed=5)
    told = asked(SyntheticPeople(recipe, body, tmp_path))
    assert isinstance(told, str) and "pchmr priors get blazepose" in told


@pytest.mark.priors
def test_the_check_asks_the_network(blazepose: Path, body: BodyModel, tmp_path: Path) -> None:
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=8, image_size=256, seed=5)
    told = asked(SyntheticPeople(recipe, body, tmp_path))
    assert isinstance(told, dict) and told["prior"] == "mediapipe 0.10.21"
    assert told["num_people"] == 8 and 0.4 < told["found"] <= 1 and told["pck"] > 0.6
