"""What must never be accepted: frames that the predictor of the error does not know."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.observations import check_observations
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import PictureReader
from pchmr.annotate.quality import load_predictors, verdicts
from pchmr.body.joints import COCO_17
from pchmr.config import SettingError
from pchmr.data.errors import InputError
from pchmr.perception.interfaces import Box, DepthMap

HIGH = {"accept_mm": 900.0, "reject_mm": 900.0}


def changed(seen: Observations, **values: object) -> Observations:
    return Observations(**{**vars(seen), **values})


def labels(annotator: Annotator, seen: Observations, mode: str, source: str = "oracle") -> dict:
    return Labeler(
        annotator=annotator, predictors=load_predictors(), mode=mode, source=source, **HIGH
    ).label(seen)


def test_a_frame_without_depth_is_judged_by_the_mode_it_comes_down_to(
    annotator: Annotator, noisy: Observations
) -> None:
    assert noisy.keypoint_depth is not None and noisy.points is not None
    depth = noisy.keypoint_depth.copy()
    depth[1] = np.nan
    few = changed(noisy, keypoint_depth=depth, points=None).take(slice(0, 2))
    found = labels(annotator, few, "deposer-keypoint")["predicted_error_mm"]
    flat = labels(annotator, few, "strong-2d")["predicted_error_mm"]
    assert found[1] == pytest.approx(flat[1], rel=0.05) and found[0] < flat[0]


@pytest.mark.parametrize(
    ("source", "mode", "judge", "calibrated"),
    [
        ("oracle", "deposer-keypoint", "deposer-keypoint", True),
        ("oracle", "smplifyx", "smplifyx", True),
        ("observations", "deposer-keypoint", "deposer-keypoint", False),
        ("vitpose+depth-anything", "deposer-keypoint", "deposer-keypoint", False),
        ("embedded", "deposer-keypoint", "embedded/deposer-keypoint", True),
        ("blazepose", "deposer-keypoint", "blazepose/deposer-keypoint", True),
        ("blazepose+depth-pro", "deposer-keypoint", "deposer-keypoint", False),
        ("embedded+depth-pro", "strong-2d", "embedded/strong-2d", True),
        ("embedded+depth-pro", "deposer-keypoint", "deposer-keypoint", False),
        ("embedded+depth-pro", "deposer-dense", "deposer-dense", False),
    ],
)
def test_every_source_has_its_own_judge(
    annotator: Annotator, source: str, mode: str, judge: str, calibrated: bool
) -> None:
    labeler = Labeler(annotator=annotator, predictors=load_predictors(), mode=mode, source=source)
    assert labeler.judge.predictor == (judge, calibrated)


@pytest.mark.parametrize("source", ["observations", "embedded+depth-anything", "vitpose"])
def test_a_source_without_predictor_is_ranked_but_never_accepted(
    annotator: Annotator, noisy: Observations, source: str
) -> None:
    seen = noisy.take(slice(0, 2))
    found = labels(annotator, seen, "deposer-keypoint", source)
    assert found["status"].tolist() == ["review", "review"] and not found["calibrated"].any()
    assert found["reason"][0] == f"the predicted error is not calibrated for {source}"
    assert np.isfinite(found["predicted_error_mm"]).all()
    own = load_predictors()
    own[f"{source}/deposer-keypoint"] = own["deposer-keypoint"]
    labeler = Labeler(
        annotator=annotator, predictors=own, mode="deposer-keypoint", source=source, **HIGH
    )
    found = labeler.label(seen)
    assert found["status"].tolist() == ["accepted", "accepted"] and found["calibrated"].all()


def test_predictors_that_are_none_are_refused(tmp_path: Path) -> None:
    for text in ("", "[1]", '{"observations/strong-2d": {"names": ["spread"]}}'):
        path = tmp_path / "own.json"
        path.write_text(text)
        with pytest.raises(SettingError, match="cannot read error predictors"):
            load_predictors(path)


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
    table[..., 0] = np.linspace(10, 90, len(names))
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
    about = SimpleNamespace(name="vitpose")
    pose = SimpleNamespace(names=COCO_17.names, provenance=about, keypoints=lambda *_: points)
    blank = DepthMap(kind="affine", depth=np.full((40, 40), np.nan))
    depth = SimpleNamespace(
        depth=lambda *_: blank, provenance=SimpleNamespace(name="depth-anything")
    )
    reader = PictureReader(pose, depth)  # type: ignore[arg-type]
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    box = Box(x=1.0, y=1.0, width=30.0, height=30.0)
    with pytest.raises(InputError, match="depth-anything gave no finite depth"):
        reader.observe_image(picture, None, box)
