"""Decoding without the networks: crops, anchors, doubles, tiles; and with them, where fetched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.cli import main
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.perception import PRIORS, load_keypoint_prior
from pchmr.perception.blazepose import landmarks
from pchmr.perception.blazepose.detector import ANCHORS, detect, merged
from pchmr.perception.blazepose.landmarks import NAMES, look, look_twice, refined
from pchmr.perception.blazepose.painted import is_ghost, painted_over, places_of
from pchmr.perception.blazepose.places import tiles
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.blazepose.proof import load_proof
from pchmr.perception.interfaces import Box, Detector, KeypointPrior
from pchmr.perception.people import LIMBS, SeenPerson, similarity, without_doubles
from pchmr.perception.turned import TurnedCrop, upright_crop

RNG = np.random.default_rng(0)


def dot(x: float, y: float, height: int = 120, width: int = 200) -> np.ndarray:
    """A bright disc on black."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize(
    "crop",
    [
        TurnedCrop(100.0, 60.0, 64.0),
        TurnedCrop(90.0, 50.0, 150.0, 0.7),
        TurnedCrop(20.0, 20.0, 700.0, -2.0),
    ],
)
def test_a_dot_is_where_the_crop_says(crop: TurnedCrop) -> None:
    place = np.array([95.5, 55.5])
    share = crop.share(place)
    np.testing.assert_allclose(crop.locate(share), place, atol=1e-9)
    cut = crop.cut(dot(*place), 128)[..., 0]
    assert cut.shape == (128, 128)
    middle = (np.argwhere(cut > 0) + 0.5).T @ cut[cut > 0] / cut.sum()
    np.testing.assert_allclose(middle[::-1], share * 128, atol=0.6)


def test_outside_the_picture_is_black() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    assert TurnedCrop(500.0, 20.0, 30.0).cut(white, 16).max() == 0
    half = TurnedCrop(40.0, 20.0, 20.0).cut(white, 20)
    assert half[:, :9].min() == 255 and half[:, 11:].max() == 0


def test_a_body_on_its_side_stands_in_its_crop() -> None:
    crop = upright_crop(np.array([50.0, 40.0]), np.array([90.0, 40.0]), 1.25)
    np.testing.assert_allclose(crop.share(np.array([90.0, 40.0])), [0.5, 0.1], atol=1e-9)
    assert crop.side == pytest.approx(100)


def test_anchors_lie_on_the_grids() -> None:
    assert ANCHORS.shape == (2254, 2)
    np.testing.assert_allclose(ANCHORS[[0, 1, 2]], [[1 / 56, 1 / 56]] * 2 + [[3 / 56, 1 / 56]])
    np.testing.assert_allclose(ANCHORS[-1], [13 / 14, 13 / 14])


def test_the_detector_is_decoded_to_a_turned_crop() -> None:
    """One anchor speaks: offsets count from it, in pixels of the input."""
    boxes, logits = np.zeros((1, 2254, 12), np.float32), np.full((1, 2254, 1), -1e9, np.float32)
    anchor = 1568 + 2 * (14 * 6 + 7)
    logits[0, anchor], at = 3.0, ANCHORS[anchor] * 224
    boxes[0, anchor, 2:4] = 30
    boxes[0, anchor, 4:6] = np.array([112, 140]) - at
    boxes[0, anchor, 6:8] = np.array([112, 70]) - at
    picture = np.zeros((448, 448, 3), np.uint8)
    (found,) = detect(lambda _: [boxes, logits], picture, TurnedCrop(224.0, 224.0, 448.0))
    assert found.score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    crop = found.crop
    assert (crop.x, crop.y, crop.side, crop.angle) == pytest.approx((224, 280, 350, 0), abs=1e-4)


def test_heads_that_overlap_are_one() -> None:
    rows = np.zeros((3, 6, 2))
    rows[:, 0] = [[0.5, 0.5], [0.52, 0.5], [0.1, 0.1]]
    rows[:, 1] = 0.2
    found = merged(np.array([0.6, 0.9, 0.7]), rows)
    assert [round(score, 2) for score, _ in found] == [0.9, 0.7]
    np.testing.assert_allclose(found[0][1][0], [(0.6 * 0.5 + 0.9 * 0.52) / 1.5, 0.5])


def outputs(**change) -> list[np.ndarray]:
    """What a landmark network could say: all points in the middle, the next crop upright."""
    points = np.zeros((39, 5), np.float32)
    points[:, :2], points[:, 3:] = 128, 10
    points[34, 1] = 28
    world = np.zeros((39, 3), np.float32)
    world[0] = [0, -0.5, 0.1]
    flag = change.get("flag", 0.9)
    mask, heat = np.zeros((1, 256, 256, 1), np.float32), np.full((1, 64, 64, 39), -9, np.float32)
    return [points.reshape(1, -1), np.float32([[flag]]), mask, heat, world.reshape(1, -1)]


def test_landmarks_turn_back_with_their_crop() -> None:
    picture, crop = dot(100, 60), TurnedCrop(100.0, 60.0, 80.0, np.pi / 2)
    seen = look(lambda _: outputs(), picture, crop)
    np.testing.assert_allclose(seen.points[:, :2], [[100, 60]] * 33, atol=1e-4)
    np.testing.assert_allclose(seen.world[NAMES.index("nose")], [0.5, 0, 0.1], atol=1e-6)
    assert seen.next_crop.angle == pytest.approx(np.pi / 2) and seen.score == pytest.approx(
        0.9, 1e-3
    )
    assert seen.next_crop.side == pytest.approx(2 * 1.25 * 100 / 256 * 80)


def test_the_second_pass_needs_somebody_in_the_first() -> None:
    picture, crop = dot(100, 60), TurnedCrop(100.0, 60.0, 80.0)
    assert look_twice(lambda _: outputs(), picture, crop, 0.5).crop != crop
    assert look_twice(lambda _: outputs(flag=0.2), picture, crop, 0.5).crop == crop


def leaning(by: float, flag: float) -> BlazePose:
    """One find, and a body that leans by some pixels of the crop, whatever the picture shows."""
    boxes, logits = np.zeros((1, 2254, 12), np.float32), np.full((1, 2254, 1), -9, np.float32)
    logits[0, 1000], boxes[0, 1000, 7] = 9, -70
    found = outputs(flag=flag)
    points = found[0].reshape(39, 5)
    for row, name in enumerate(NAMES):
        side = {"l": 40, "r": -40}.get(name[0], 0)
        points[row, :2] = 128 + side + by, 40 + 5 * row
    prior = object.__new__(BlazePose)
    prior.detector, prior.network = (lambda _: [boxes, logits]), (lambda _: found)
    prior.proof = load_proof()
    return prior


def test_people_must_be_in_the_mirror_too() -> None:
    picture = dot(100, 60)
    assert len(leaning(0, 0.99).people(picture)) == 1
    assert leaning(40, 0.99).people(picture) == []
    assert leaning(0, 0.4).people(picture) == []


def test_the_mirror_is_looked_at_once() -> None:
    picture, prior = dot(100, 60), leaning(0, 0.99)
    (person,) = prior.people(picture)
    assert person.mirror_world is not None
    told = prior.mirrored(picture, person)
    np.testing.assert_array_equal(told, prior.mirrored(picture, replace(person, mirror_world=None)))


def test_a_person_is_painted_over_with_what_lies_around() -> None:
    image = np.full((120, 200, 3), 90, np.uint8)
    image[:, 40:80] = 250
    painted = places_of([seen_at(60.0, 0.9)], 120, 200)
    rest = painted_over(image, painted)
    assert painted[50, 60] and not painted[50, 150]
    assert np.abs(rest[50, 60].astype(int) - 90).max() < 20 and (rest[:, 150:] == 90).all()
    assert is_ghost(seen_at(60.0, 0.9), painted) and not is_ghost(seen_at(150.0, 0.9), painted)


def test_who_is_hidden_is_found_behind_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    front, hidden, ghost = seen_at(60.0, 0.9), seen_at(150.0, 0.7), seen_at(62.0, 0.6, 60.0)
    answers = [[front], [hidden, ghost], []]
    prior = leaning(0, 0.99)
    monkeypatch.setattr(prior, "_true", lambda *_: answers.pop(0))
    assert prior.people(dot(100, 60)) == [front, hidden] and answers == []


def test_a_hot_map_moves_its_point() -> None:
    heat = np.full((64, 64, 2), -9.0)
    heat[21, 32, 0] = 9
    found = refined(np.full((2, 2), 0.5) - [[0, 0.15], [0, 0.15]], heat)
    np.testing.assert_allclose(found[0], [32 / 64, 21 / 64], atol=2e-3)
    np.testing.assert_allclose(found[1], [0.5, 0.35])


def seen_at(x: float, score: float, height: float = 100.0) -> SeenPerson:
    pose = np.zeros((33, 3))
    pose[:, 0], pose[:, 1], pose[:, 2] = x, np.linspace(0, height, 33), 1
    return SeenPerson(
        box=Box(x=x - 20, y=0.0, width=40.0, height=height), keypoints=pose,
        world=np.zeros((33, 3)), presence=1.0, score=score,
        crop=TurnedCrop(x, height / 2, height), cells=np.ones((16, 16)),
    )  # fmt: skip


def test_of_doubles_the_surer_stays() -> None:
    people = [seen_at(50.0, 0.6), seen_at(53.0, 0.9), seen_at(150.0, 0.7)]
    assert [p.score for p in without_doubles(people, NAMES)] == [0.9, 0.7]
    limbs = people[0].keypoints[: len(LIMBS), :2]
    assert similarity(limbs, limbs, 50.0) == 1 and similarity(limbs, limbs + 200, 50.0) < 1e-6


def test_a_mask_lies_on_its_crop() -> None:
    mask = seen_at(60.0, 0.9).mask(120, 200)
    assert mask.shape == (120, 200) and mask[50, 60] == 1 and mask[50, 130] == 0
    assert mask.sum() == pytest.approx(100 * 100, rel=0.05)


def test_tiles_cover_a_picture() -> None:
    covered = np.zeros((300, 500))
    for tile in tiles(500, 300, 176.0):
        x, y, half = round(tile.x), round(tile.y), 88
        covered[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] += 1
    assert covered.min() >= 1
    assert [t.side for t in tiles(100, 300, 200.0)] == [200.0, 200.0]


def test_its_names_are_the_packages() -> None:
    assert len(NAMES) == len(set(NAMES)) == 33 and set(COCO_17.names) <= set(NAMES)
    assert landmarks.NEXT_MIDDLE == 33 and "blazepose" in PRIORS


def test_without_the_files_the_cure_is_told(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path))
    command = ["annotate", str(tmp_path), "--keypoint-prior", "blazepose", "--output"]
    assert main([*command, str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "pchmr priors get blazepose" in told and told.count("\n") == 1


@pytest.fixture(scope="session")
def prior(blazepose: Path) -> BlazePose:
    found = load_keypoint_prior("blazepose", blazepose)
    assert isinstance(found, BlazePose)
    return found


@pytest.mark.priors
def test_it_is_what_the_room_expects(prior: BlazePose) -> None:
    assert isinstance(prior, KeypointPrior) and isinstance(prior, Detector)
    told = prior.provenance
    assert (told.license, told.version) == ("Apache-2.0", "mediapipe 0.10.21")


@pytest.mark.priors
def test_nobody_is_found_where_nobody_is(prior: BlazePose) -> None:
    noise = RNG.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    blank = np.full((240, 320, 3), 255, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 320)[None, :, None], (240, 320, 3))
    for picture in (noise, blank, blank * 0, ramp.astype(np.uint8), blank[:1, :1]):
        assert prior.people(picture) == []


@pytest.mark.priors
def test_rendered_people_are_found_where_they_are(
    prior: BlazePose, body: BodyModel, tmp_path: Path
) -> None:
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=12, image_size=256, seed=5)
    people = SyntheticPeople(recipe, body, tmp_path)
    assert sum(len(prior.people(people.image(row))) == 1 for row in range(12)) >= 6


@pytest.mark.priors
def test_points_lie_the_same_in_the_mirror(
    prior: BlazePose, body: BodyModel, tmp_path: Path
) -> None:
    """Half a cell of a heat map to one side was 1.6 percent of a crop between the two."""
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=8, image_size=256, seed=5)
    people, apart = SyntheticPeople(recipe, body, tmp_path), []
    for row in range(len(people)):
        image = people.image(row)
        for seen in prior.people(image):
            mirrored = look(
                prior.network,
                np.ascontiguousarray(image[:, ::-1]),
                TurnedCrop(256 - seen.crop.x, seen.crop.y, seen.crop.side, -seen.crop.angle),
            )
            across = 256 - mirrored.points[list(prior.mirror), 0]
            apart += ((seen.keypoints[:, 0] - across) / seen.crop.side).tolist()
    assert abs(np.median(apart)) < 0.005
