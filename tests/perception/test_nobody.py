"""Pictures without people hold nobody: rooms, textures, cats and cups; needs fetched files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pchmr.data.synthetic.environments import WHITE, environments
from pchmr.perception import load_keypoint_prior
from pchmr.perception.blazepose.prior import BlazePose

pytestmark = pytest.mark.priors
BAND, ACROSS, LARGER = slice(56, 200), 192, 3  # rows and columns of a panorama that make a view
THINGS = ("cat", "coffee", "coins", "grass", "brick", "page", "moon", "clock", "rocket", "horse")


@pytest.fixture(scope="module")
def prior(blazepose: Path) -> BlazePose:
    found = load_keypoint_prior("blazepose", blazepose)
    assert isinstance(found, BlazePose)
    return found


def views(name: str) -> Iterator[np.ndarray]:
    """An empty place, looked at in two directions."""
    shown = 255 * (environments()[name].picture / WHITE).clip(0, 1) ** (1 / 2.2)
    for left in (0, 256):
        part = Image.fromarray(shown[BAND, left : left + ACROSS].astype(np.uint8))
        yield np.asarray(part.resize((LARGER * part.width, LARGER * part.height)))


@pytest.mark.parametrize("name", ["apartment", "hall", "lobby", "studio", "warehouse", "park"])
def test_an_empty_place_holds_nobody(prior: BlazePose, name: str) -> None:
    assert [len(prior.people(view)) for view in views(name)] == [0, 0]


@pytest.mark.parametrize("name", THINGS)
def test_a_cat_and_a_cup_are_nobody(prior: BlazePose, name: str) -> None:
    data = pytest.importorskip("skimage.data")
    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    assert prior.people(np.asarray(picture)) == []


@pytest.mark.parametrize("spread", [1, 4, 16])
def test_textures_are_nobody(prior: BlazePose, spread: int) -> None:
    rng = np.random.default_rng(spread)
    coarse = rng.integers(0, 256, (360 // spread, 480 // spread, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC)
    assert prior.people(np.asarray(picture)) == []


def test_who_is_cut_at_the_chest_is_somebody(prior: BlazePose) -> None:
    samples = pytest.importorskip("matplotlib.cbook")
    with samples.get_sample_data("grace_hopper.jpg") as file:
        picture = np.asarray(Image.open(file).convert("RGB"))
    (person,) = prior.people(picture)
    seen = person.keypoints[person.keypoints[:, 2] > 0, :2]
    assert len(seen) >= 11, "the face, and points below it"
    assert (seen >= 0).all() and (seen <= [picture.shape[1], picture.shape[0]]).all()
