"""What must never be accepted: frames that the predictor of the error does not know."""

from types import SimpleNamespace

import numpy as np
import pytest

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.observations import Observations, check_observations
from pchmr.annotate.pictures import PictureReader
from pchmr.annotate.priors.interfaces import Box, DepthMap
from pchmr.annotate.quality import load_predictors, verdicts
from pchmr.body.joints import COCO_17
from pchmr.data.errors import InputError

HIGH = {"accept_mm": 900.0, "reject_mm": 900.0}


def changed(seen: Observations, **values: object) -> Observations:
    return Observations(**{**vars(seen), **values})


def labels(annotator: Annotator, seen: Observations, mode: str, source: str = "") -> dict:
    return Labeler(
        annotator=annotator, predictors=load_predictors(), mode=mode, source=source, **HIGH
    ).label(seen)


def test_a_frame_without_depth_is_for_review(annotator: Annotator, noisy: Observations) -> None:
    assert noisy.keypoint_depth is not None and noisy.points is not None
    depth = noisy.keypoint_depth.copy()
    depth[1] = np.nan
    few = changed(noisy, keypoint_depth=depth).take(slice(0, 3))
    found = labels(annotator, few, "deposer-keypoint")
    assert found["status"].tolist() == ["accepted", "review", "accepted"]
    assert np.isnan(found["predicted_error_mm"]).tolist() == [False, True, False]
    assert "no depth" in found["reason"][1]
    points = noisy.points.copy()
    points[0] = np.nan
    found = labels(annotator, changed(noisy, points=points).take(slice(0, 2)), "deposer-dense")
    assert found["status"].tolist() == ["review", "accepted"] and "no point" in found["reason"][0]
    found = labels(annotator, changed(few, keypoint_depth=None), "deposer-dense")
    assert set(found["status"]) == {"review"} and "no depth" in found["reason"][0]


@pytest.mark.parametrize(
    ("source", "mode", "judge"),
    [
        ("", "deposer-keypoint", "deposer-keypoint"),
        ("vitpose+depth-anything", "deposer-keypoint", "deposer-keypoint"),
        ("embedded", "deposer-keypoint", "embedded/deposer-keypoint"),
        ("embedded+depth-pro", "strong-2d", "embedded/strong-2d"),
        ("embedded+depth-pro", "deposer-keypoint", None),
        ("embedded+depth-pro", "deposer-dense", None),
        ("embedded", "smplifyx", None),
    ],
)
def test_every_source_has_its_own_judge(
    annotator: Annotator, source: str, mode: str, judge: str | None
) -> None:
    labeler = Labeler(annotator=annotator, predictors=load_predictors(), mode=mode, source=source)
    assert labeler._judge == judge or (judge is None and labeler._judge not in labeler.predictors)


def test_a_combination_of_priors_without_predictor_is_for_review(
    annotator: Annotator, noisy: Observations
) -> None:
    seen = noisy.take(slice(0, 1))
    found = labels(annotator, seen, "deposer-keypoint", "embedded+depth-anything")
    assert found["status"].tolist() == ["review"]
    assert found["reason"][0] == "no calibrated predictor for this combination of priors"


@pytest.mark.parametrize("place", [1e300, 1e38, 2e6])
def test_a_keypoint_far_beside_the_picture_is_not_seen(
    annotator: Annotator, noisy: Observations, place: float
) -> None:
    table = noisy.keypoints_2d[:1].copy()
    table[0, 3] = (place, 50.0, 1.0)
    seen = check_observations(
        {
            "keypoints_2d": table,
            "keypoint_names": np.array(noisy.keypoint_names),
            "image_size": noisy.image_size[:1],
        }
    )
    assert np.isnan(seen.keypoints_2d[0, 3]).all()
    found = labels(annotator, seen, "strong-2d")
    assert np.isfinite(found["vertices"]).all()


@pytest.mark.parametrize("shift", [np.nan, -50.0])
def test_a_mesh_that_is_none_is_rejected(
    annotator: Annotator, noisy: Observations, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    whole = annotator.vertices
    monkeypatch.setattr(annotator, "vertices", lambda fit: whole(fit) + shift)
    found = labels(annotator, noisy.take(slice(0, 1)), "strong-2d")
    assert found["status"].tolist() == ["rejected"] and "mesh" in found["reason"][0]
    assert np.isnan(found["predicted_error_mm"]).all()


def test_only_keypoints_of_the_body_that_are_there_count() -> None:
    names = (*COCO_17.names, *(f"marker_{row}" for row in range(10)))
    table = np.full((2, len(names), 3), 50.0)
    table[..., 2] = 0.9
    table[0, 3:17] = np.nan  # markers alone make no person
    table[1, 10:17] = np.nan  # and what is missing does not lie outside
    table[1, 17:, :2] = -500.0
    seen = Observations(
        keypoints_2d=table, keypoint_names=names, image_size=np.array([[100, 100]] * 2)
    )
    assert seen.num_seen.tolist() == [3, 10]
    found = verdicts(seen, np.array([20.0, 20.0]), accept_mm=60.0, reject_mm=150.0)
    assert [status for status, _ in found] == ["rejected", "accepted"]


def test_a_depth_prior_without_any_depth_is_named() -> None:
    points = np.full((17, 3), 20.0)
    pose = SimpleNamespace(names=COCO_17.names, keypoints=lambda *_: points)
    blank = DepthMap(kind="affine", depth=np.full((40, 40), np.nan))
    depth = SimpleNamespace(
        depth=lambda *_: blank, provenance=SimpleNamespace(name="depth-anything")
    )
    reader = SimpleNamespace(keypoint_prior=pose, depth_prior=depth, box=None)
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    box = Box(x=1.0, y=1.0, width=30.0, height=30.0)
    with pytest.raises(InputError, match="depth-anything gave no finite depth"):
        PictureReader.observe_image(reader, picture, None, box)  # type: ignore[arg-type]
