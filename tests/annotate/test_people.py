"""Whom labels show where a picture shows several, and what is stored of the others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.predict.watchers import Knower, posed, seen

from pchmr.annotate import pictures
from pchmr.annotate.deposer import Annotator
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.job import raised
from pchmr.annotate.pictures import PictureReader
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.data.labels import without_bystanders

UPRIGHT = (np.pi, 0.0, 0.0)
CAMERA = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])


@pytest.fixture(scope="module")
def knower(annotator: Annotator) -> Knower:
    places = ((-0.9, 0.2, 6.0), (0.8, 0.2, 4.0))
    return Knower([seen(posed(annotator, UPRIGHT, place), CAMERA) for place in places])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.full((480, 640, 3), 200, np.uint8)).save(tmp_path / "two.png")
    return tmp_path / "two.png"


def middles(found: pictures.Glimpse) -> list[float]:
    return found.observations.keypoints_2d[..., 0].mean(axis=1).tolist()


def test_the_largest_is_labeled_and_the_other_masked(knower: Knower, photo: Path) -> None:
    found = PictureReader(knower).observe(photo)
    assert found.numbers is not None and found.numbers.tolist() == [2]
    assert middles(found) == pytest.approx([440], abs=15) and not found.is_clip
    assert found.observations.keypoints_3d is not None and found.bystanders is not None
    columns = np.nonzero(found.bystanders[0])[1]
    assert 0 < columns.mean() / found.bystanders.shape[2] < 0.5
    hidden = without_bystanders(found.picture, found.bystanders[0])
    gray = (hidden == 128).all(axis=-1)
    assert gray[:, :320].any() and not gray[:, 320:].any()


def test_numbers_and_all(knower: Knower, photo: Path) -> None:
    first = PictureReader(knower, who="1").observe(photo)
    assert middles(first) == pytest.approx([230], abs=15)
    everybody = PictureReader(knower, who="all").observe(photo)
    assert everybody.numbers is not None and everybody.numbers.tolist() == [1, 2]
    assert len(everybody.observations) == 2 and not everybody.is_clip
    assert everybody.bystanders is not None and not everybody.bystanders.any()
    with pytest.raises(InputError, match="there are 2 people"):
        PictureReader(knower, who="3").observe(photo)
    boxed = PictureReader(knower, box=knower.shown[0].box).observe(photo)
    assert middles(boxed) == pytest.approx([230], abs=15)
    assert boxed.bystanders is not None and boxed.bystanders.any()
    with pytest.raises(InputError, match="no person was found"):
        PictureReader(Knower([])).observe(photo)


def test_a_video_follows_its_person(
    knower: Knower, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    blank = np.zeros((480, 640, 3), np.uint8)
    monkeypatch.setattr(pictures, "is_video", lambda path: True)
    monkeypatch.setattr(pictures, "video_frames", lambda path: ((blank, t) for t in (0.0, 0.1)))
    found = PictureReader(knower).observe(photo)
    assert found.is_clip and middles(found) == pytest.approx([440, 440], abs=15)
    assert found.bystanders is not None and found.bystanders.any(axis=(1, 2)).all()
    with pytest.raises(InputError, match="a video gives labels of one person"):
        PictureReader(knower, who="all").observe(photo)


def test_without_calibration_a_label_is_for_review(
    annotator: Annotator, knower: Knower, photo: Path
) -> None:
    reader = PictureReader(knower)
    seen = reader.observe(photo).observations
    labeler = Labeler(annotator=annotator, mode="deposer-keypoint", source=reader.source)
    arrays = labeler.label(seen)
    assert arrays["status"].tolist() == ["review"] and not arrays["calibrated"].any()
    assert "no calibrated predictor" in arrays["reason"][0] and raised(arrays) == []


@pytest.mark.parametrize(
    "given",
    [
        {"images": Path("a.png"), "person": "none"},
        {"images": Path("a.png"), "person": "1", "bbox": "1,2,3,4"},
        {"observations": Path("a.npz"), "person": "all"},
    ],
)
def test_settings_that_contradict_are_refused(given: dict) -> None:
    with pytest.raises(SettingError, match="--person"):
        AnnotateConfig(**given)
