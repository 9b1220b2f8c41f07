"""Nobody, one person, several: who is found in a picture, by whom, and what becomes of a video."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.perception.test_priors import BOX, spot_picture

from pchmr.annotate import pictures
from pchmr.annotate.pictures import PictureReader, whole
from pchmr.bench.annotators.presence import backgrounds, blanks, picture
from pchmr.body.joints import COCO_17
from pchmr.config import AnnotateConfig, DataOptions
from pchmr.data import load_people
from pchmr.data.errors import InputError
from pchmr.data.sample import PeopleDataset
from pchmr.perception.detection import (
    PRESENCE,
    PeopleFinder,
    box_of,
    find_people,
    fit_presence,
    load_presence,
    overlap,
    windows,
)
from pchmr.perception.embedded import WEIGHTS, Embedded
from pchmr.perception.interfaces import Box, Detector, Image, PersonView, Provenance
from pchmr.runs import file_sha256

PHOTO = Path(__file__).resolve().parents[3] / "shared" / "photos" / "person.jpg"
SEEN = np.array([[40.0, 30.0, 0.9], [80.0, 30.0, 0.9], [60.0, 90.0, 0.9], [61.0, 50.0, 0.9]])


@pytest.fixture(scope="module")
def finder() -> PeopleFinder:
    return PeopleFinder(Embedded())


@pytest.fixture(scope="module")
def crowd(body, tmp_path_factory: pytest.TempPathFactory) -> PeopleDataset:
    """Four people of domain B in pictures large enough for windows."""
    cache = tmp_path_factory.mktemp("shown")
    options = DataOptions(num_test_samples=4, image_size=256, cache=cache)
    return load_people(options, "test", body=body, seed=0, image_size=256)


@pytest.fixture(scope="module")
def shown(crowd: PeopleDataset) -> list[Image]:
    return [picture(crowd, row) for row in range(4)]


class Sees:
    """A prior that sees a person of fixed keypoints in every place, or with a given chance."""

    names = ("nose", "left_eye", "right_eye", "left_ear")
    provenance = Provenance(name="fixed", license="none", sha256="")

    def __init__(self, presence: float = 1.0) -> None:
        self.presence, self.looked = presence, []

    def look(self, image: Image, box: Box) -> PersonView:
        self.looked.append(box)
        one = np.ones(4)
        return PersonView(
            keypoints=SEEN, sigma=one, depth=0 * one, depth_sigma=one, presence=self.presence
        )

    def keypoints(self, image: Image, box: Box) -> np.ndarray:
        return self.look(image, box).keypoints


def test_the_person_is_looked_for_closer_and_closer() -> None:
    prior = Sees()
    (found,) = PeopleFinder(prior).detect(spot_picture())
    assert prior.looked[0].width == 200 and len(prior.looked) == 2
    assert found == box_of(SEEN) and found.x < 40 < 80 < found.x + found.width
    assert PeopleFinder(Sees(0.3)).detect(spot_picture()) == []
    middles = [(round(b.center[0]), round(b.center[1])) for b in windows(400, 300)]
    assert middles[:2] == [(150, 150), (250, 150)] and len(middles) == 8
    assert overlap(BOX, BOX) == 1 and overlap(BOX, Box(x=0.0, y=0.0, width=9.0, height=9.0)) == 0
    assert box_of(SEEN * [1, 1, 0.1]) is None and box_of(SEEN * [0.1, 0.1, 1]) is None


def test_presence_is_fitted_and_belongs_to_the_shipped_weights() -> None:
    rng = np.random.default_rng(0)
    people, empty = rng.normal(1.0, 0.3, (40, 3)), rng.normal(-1.0, 0.3, (10, 3))
    fitted = fit_presence(people, empty)
    assert fitted.chance(np.ones(3)) > 0.9 and fitted.chance(-np.ones(3)) < 0.1
    assert fitted.chance(np.full(3, 1e9)) <= 1
    table = json.loads(PRESENCE.read_text())
    assert table["weights_sha256"] == file_sha256(WEIGHTS)
    assert len(load_presence().slope) == 4


def test_nobody_is_found_in_pictures_of_nothing(finder: PeopleFinder) -> None:
    assert isinstance(finder, Detector)
    for image in blanks(6, seed=0):
        assert finder.detect(image) == []
    reader = PictureReader(finder.prior)
    with pytest.raises(InputError, match="no person was found; give --bbox"):
        _observed(reader, blanks(1, 0))


def _observed(reader: PictureReader, images: list[Image]):
    """What a reader sees in a video of these frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "is_video", lambda path: True)
        patch.setattr(
            pictures,
            "video_frames",
            lambda path: zip(images, np.arange(len(images)) / 12, strict=True),
        )
        return reader.observe(Path("clip.mp4"))


def test_one_person_is_one_and_two_are_several(finder: PeopleFinder, shown: list[Image]) -> None:
    assert [len(finder.detect(image)) for image in shown] == [1, 1, 1, 1]
    pair = np.concatenate(shown[:2], axis=1)
    first, second = finder.detect(pair)
    assert {first.center[0] < 256, second.center[0] < 256} == {True, False}
    found = _observed(PictureReader(finder.prior), [pair])
    large = max((first, second), key=lambda box: box.width * box.height)
    middle = found.observations.keypoints_2d[0, :, 0].mean()
    assert (middle < 256) == (large.center[0] < 256)
    assert found.bystanders is not None and found.bystanders.any()


def test_a_person_may_leave_a_video_and_come_back(finder: PeopleFinder, shown: list[Image]) -> None:
    blank = np.full((256, 256, 3), 128, dtype=np.uint8)
    found = _observed(PictureReader(finder.prior), [blank, shown[0], shown[0], blank, shown[0]])
    assert (found.observations.num_seen > 0).tolist() == [False, True, True, False, True]
    assert np.allclose(found.observations.times, np.arange(5) / 12)


@pytest.mark.skipif(not PHOTO.is_file(), reason="no photo at hand")
def test_the_person_of_a_real_photo_is_one(finder: PeopleFinder) -> None:
    from pchmr.data.photos import load_photo

    (box,) = finder.detect(load_photo(PHOTO))
    assert 0.2 < box.height / 1400 < 0.7


def test_backgrounds_are_strips_without_the_person(
    crowd: PeopleDataset, finder: PeopleFinder
) -> None:
    strips = [strip for row in range(4) for strip in backgrounds(crowd, row)]
    assert strips and all(strip.shape[1] < 200 for strip in strips)
    assert sum(len(finder.detect(strip)) for strip in strips) == 0


class Told:
    """A detector that finds what it is told."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)

    def detect(self, image: Image) -> list[Box]:
        return self.boxes

    def shows(self, image: Image, box: Box) -> bool:
        return True


class Halves:
    """A foundation model that sees a person in the left half, and one as sure in the right."""

    names = COCO_17.names
    provenance = Provenance(name="vitpose", license="none", sha256="")

    def __init__(self, right: float) -> None:
        self.right = right

    def keypoints(self, image: Image, box: Box) -> np.ndarray:
        spread = np.linspace(-20, 20, len(self.names))
        sure = 0.9 if box.center[0] < 100 else self.right
        middle = 50 if box.center[0] < 100 else 150
        return np.stack([middle + spread, 60 + spread, np.full(len(spread), sure)], axis=-1)


def test_a_foundation_model_has_the_last_word_on_who_is_there() -> None:
    left, right = (Box(x=x, y=20.0, width=60.0, height=80.0) for x in (20.0, 120.0))
    two = Told(left, right)
    assert len(find_people(spot_picture(), Halves(0.9), two)) == 2
    (only,) = find_people(spot_picture(), Halves(0.1), two)
    assert only.center[0] == pytest.approx(50)
    assert len(find_people(spot_picture(), Halves(0.9), Told(left, left))) == 1
    (alone,) = find_people(spot_picture(), Halves(0.9), Told())
    assert alone.center[0] == pytest.approx(150) and whole(spot_picture()).width == 200


def test_foundation_models_get_the_embedded_detector(
    body, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {"vitpose": Halves(0.9), "embedded": Sees()}
    monkeypatch.setattr(pictures, "load_keypoint_prior", lambda name, weights=None: given[name])
    monkeypatch.setattr(pictures.HmrStarts, "open", lambda *_: None)
    common = {"images": tmp_path, "keypoint_prior": "vitpose", "keypoint_weights": tmp_path}
    reader = PictureReader.open(AnnotateConfig(**common), body)
    assert isinstance(reader.detector, PeopleFinder) and reader.detector.prior is given["embedded"]
    boxed = PictureReader.open(AnnotateConfig(**common, bbox="1,2,3,4"), body)
    assert boxed.detector is None
