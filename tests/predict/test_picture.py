"""Everybody in a picture through a network that sees people in space; no fetched files."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.inference.figure import RedModel
from tests.predict.watchers import Knower, posed, seen

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.judging import Judge
from pchmr.annotate.quality import load_predictors
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.data.errors import InputError
from pchmr.data.exif import FocalLength
from pchmr.inference import Predictor
from pchmr.perception.interfaces import Box
from pchmr.perception.people import SeenPerson, chosen
from pchmr.predict import People, Tools, people_of

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
CAMERA = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
KNOWN = FocalLength(FOCAL, 0.0)
UPRIGHT = (math.pi, 0.0, 0.0)
HEAD_DOWN = (0.0, 0.3, 0.0)
ON_THE_SIDE = (2.2, 2.2, 0.0)


@pytest.fixture(scope="module")
def annotator(body: BodyModel) -> Annotator:
    return Annotator(body)


def tools_of(annotator: Annotator, joints: list[np.ndarray]) -> Tools:
    body = annotator.body
    return Tools(
        predictor=Predictor(RedModel(body), body, 64),
        prior=Knower([seen(one, CAMERA) for one in joints]),
        annotator=annotator,
    )


def shown_by(tools: Tools) -> list[SeenPerson]:
    assert isinstance(tools.prior, Knower)
    return tools.prior.shown


IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def test_people_stand_where_they_were_seen_before_one_camera(annotator: Annotator) -> None:
    truth = [
        posed(annotator, UPRIGHT, (-0.6, 0.2, 4.0)),
        posed(annotator, HEAD_DOWN, (0.9, 0.0, 5.0), seed=1),
        posed(annotator, ON_THE_SIDE, (0.2, 0.3, 4.5), seed=2),
    ]
    people = people_of(IMAGE, tools_of(annotator, truth), KNOWN)
    assert people.track_id.tolist() == [1, 2, 3] and people.intrinsics[0, 0] == pytest.approx(FOCAL)
    rows = [people.joint_names.index(name) for name in COCO_17.names]
    pixels = people.joints @ people.intrinsics.T
    pixels = pixels[..., :2] / pixels[..., 2:]
    wanted = people.keypoints_2d[:, : len(COCO_17)]
    assert np.linalg.norm(pixels[:, rows] - wanted[..., :2], axis=-1).max() < 12
    for found, true in zip(people.joints[:, rows], truth, strict=True):
        apart = (found - found.mean(axis=0)) - (true[:17] - true[:17].mean(axis=0))
        assert np.linalg.norm(apart, axis=-1).mean() < 0.06, "lying and head down too"
    assert people.score is not None and ((people.score > 0) & (people.score <= 1)).all()


def test_an_unknown_focal_length_is_one_for_all(annotator: Annotator) -> None:
    truth = [
        posed(annotator, UPRIGHT, (x, 0.2, 4.0), seed=row) for row, x in enumerate((-0.7, 0.7))
    ]
    tools = tools_of(annotator, truth)
    people = people_of(IMAGE, tools)
    pixels = people.joints @ people.intrinsics.T
    row = people.joint_names.index("left_shoulder")
    keypoint = people.keypoint_names.index("left_shoulder")
    seen_at = people.keypoints_2d[:, keypoint, :2]
    assert (pixels[:, row, :2] / pixels[:, row, 2:]) == pytest.approx(seen_at, abs=8)


def test_who_is_meant(annotator: Annotator) -> None:
    truth = [
        posed(annotator, UPRIGHT, (-0.6, 0.2, 6.0)),
        posed(annotator, UPRIGHT, (0.6, 0.2, 4.0)),
    ]
    tools = tools_of(annotator, truth)
    assert people_of(IMAGE, tools, KNOWN, who="largest").track_id.tolist() == [2]
    assert people_of(IMAGE, tools, KNOWN, who="1").track_id.tolist() == [1]
    with pytest.raises(InputError, match="there are 2 people"):
        people_of(IMAGE, tools, KNOWN, who="3")
    box = shown_by(tools)[1].box
    boxed = people_of(IMAGE, tools, KNOWN, box=box)
    assert boxed.transl[0, 2] == pytest.approx(4.0, abs=0.3)
    assert chosen("2", []) == [] and chosen("largest", []) == []


def test_the_networks_word_stays_where_the_fit_fails(annotator: Annotator) -> None:
    truth = posed(annotator, UPRIGHT, (0.0, 0.2, 4.0))
    tools = tools_of(annotator, [truth])
    person = replace(shown_by(tools)[0], keypoints=np.full((23, 3), np.nan))
    shown_by(tools)[:] = [person]
    people = people_of(IMAGE, tools, KNOWN)
    assert np.isfinite(people.vertices).all() and people.vertices[..., 2].min() > 0


def test_a_speck_is_nobody(annotator: Annotator) -> None:
    tools = tools_of(annotator, [posed(annotator, UPRIGHT, (0.0, 0.2, 4.0))])
    small = replace(shown_by(tools)[0], box=Box(x=3.0, y=3.0, width=5.0, height=9.0))
    shown_by(tools)[:] = [small]
    assert len(people_of(IMAGE, tools, KNOWN).track_id) == 0


def test_fifty_people_are_fifty(annotator: Annotator) -> None:
    joints = posed(annotator, UPRIGHT, (0.0, 0.2, 6.0))
    places = [
        (x, y, z) for x in np.linspace(-2, 2, 10) for y in (-1, -0.5, 0, 0.5, 1) for z in (3,)
    ]
    tools = tools_of(annotator, [joints + place for place in places])
    people = people_of(IMAGE, tools, KNOWN)
    assert people.track_id.tolist() == list(range(1, 51))
    assert np.isfinite(people.vertices).all() and people.vertices[..., 2].min() > 0


def judged(annotator: Annotator, source: str, **changes: float) -> People:
    """One person who is judged as what a source sees."""
    tools = tools_of(annotator, [posed(annotator, UPRIGHT, (0.0, 0.2, 4.0))])
    judge = Judge(predictors=load_predictors(), mode="deposer-keypoint", source=source, **changes)
    return people_of(IMAGE, replace(tools, judge=judge), KNOWN)


def test_every_person_has_a_status_and_a_reason(annotator: Annotator) -> None:
    known = judged(annotator, "blazepose")
    assert known.predicted_error_mm is not None and known.predicted_error_mm[0] > 0
    assert known.status is not None and known.status.tolist() == ["review"]
    assert known.reason is not None and "predicted error" in known.reason[0]
    other = judged(annotator, "knower", accept_mm=900.0, reject_mm=900.0)
    assert other.status is not None and other.status.tolist() == ["review"]


def test_evidence_out_of_range_is_never_accepted(
    annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"accept_mm": 50_000.0, "reject_mm": 50_000.0}
    usual = judged(annotator, "blazepose", **free)
    assert usual.status is not None and usual.status.tolist() == ["accepted"]
    monkeypatch.setattr("pchmr.annotate.quality.predictor.RANGE", -3.0)
    found = judged(annotator, "blazepose", **free)
    assert found.status is not None and found.status.tolist() == ["review"]
    assert found.reason is not None and "calibrated on" in found.reason[0]
