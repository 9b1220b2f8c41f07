from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.keypoints import LABEL_POINTS
from pchmr.annotate.observed import Observations
from pchmr.annotate.quality import (
    ALONE,
    coverage_curve,
    fit_predictor,
    inspect,
    is_usual,
    isotonic,
    load_predictors,
    predict_mm,
    save_predictors,
    verdicts,
)


def made_up(count: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    telling, silent = rng.uniform(1, 5, count), rng.uniform(1, 5, count)
    error = 10 * telling * np.exp(0.2 * rng.standard_normal(count))
    return {"telling": telling, "silent": silent}, error


def test_a_predictor_finds_the_signal_and_its_unit() -> None:
    signals, error = made_up()
    predictor = fit_predictor(signals, error)
    predicted = predictor.predict_mm(signals)
    assert float(predicted.mean()) == pytest.approx(float(error.mean()), rel=0.02)
    assert np.corrcoef(predicted, error)[0, 1] > 0.8
    curve = coverage_curve(predicted, error)
    means = [mm for _, mm in curve]
    assert means == sorted(means, reverse=True) and curve[0][1] == pytest.approx(error.mean())


def test_isotonic_by_hand() -> None:
    knots = isotonic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 5.0]))
    assert knots.tolist() == [[1.0, 2.5, 4.0], [1.0, 2.5, 5.0]]


def test_predictors_survive_their_file(tmp_path: Path) -> None:
    signals, error = made_up()
    predictor = fit_predictor(signals, error)
    save_predictors(tmp_path / "quality.json", {"strong-2d": predictor})
    again = load_predictors(tmp_path / "quality.json")["strong-2d"]
    np.testing.assert_allclose(again.predict_mm(signals), predictor.predict_mm(signals), atol=0.1)


@pytest.fixture(scope="module")
def in_space(noisy: Observations) -> Observations:
    """The same people with flat joints in space."""
    flat = np.nan_to_num(noisy.keypoints_2d[..., :2]) / 200
    return replace(noisy, keypoints_3d=np.concatenate([flat, 0 * flat[..., :1]], axis=-1))


def test_a_fit_tells_what_the_shipped_predictors_ask(
    annotator: Annotator, noisy: Observations, in_space: Observations
) -> None:
    for mode, predictor in load_predictors().items():
        if mode.startswith("smplifyx"):
            continue
        seen, name = (in_space if mode.startswith("blazepose") else noisy), mode.split("/")[-1]
        starts = annotator.yaw_starts(len(seen))[:1] if name in MODES else []
        name = name if name in MODES else "deposer-keypoint"
        found = inspect(annotator, annotator.fit(seen, MODES[name], starts))
        assert set(predictor.names) <= set(found.signals)
        assert found.joint_std.shape == (len(noisy), len(LABEL_POINTS))
        assert np.isfinite(found.joint_std).all()
        assert (predictor.predict_mm(found.signals) > 0).all()


def test_who_has_no_network_is_judged_by_those_who_had_none(
    annotator: Annotator, in_space: Observations
) -> None:
    """A body of one's own that no shipped network fits is labeled without one."""
    found = inspect(annotator, annotator.fit(in_space, MODES["deposer-keypoint"]))
    made, error = made_up()
    signals = {"spread": made["telling"], "prior": made["silent"]}
    own = fit_predictor(signals, error)
    more = fit_predictor({**signals, "told": made["telling"]}, error)
    predictors = {"blazepose/deposer-keypoint": more, f"blazepose/{ALONE}": own}
    judge = "blazepose/deposer-keypoint"
    assert np.isfinite(predict_mm(predictors, judge, found)).all()
    assert (is_usual(predictors, judge, found) == own.knows(found.signals)).all()
    assert np.isnan(predict_mm({judge: more}, judge, found)).all()


def test_verdicts_name_their_reason(noisy: Observations) -> None:
    few = noisy.keypoints_2d.copy()
    few[0, :, 2] = 0
    few[1, 6:, 2] = 0.4
    few[2, :10, :2] = -50
    changed = Observations(**{**vars(noisy), "keypoints_2d": few})
    predicted = np.array([20.0, 20.0, 20.0, 20.0, 90.0, 200.0])
    found = verdicts(changed, predicted, accept_mm=60.0, reject_mm=150.0)
    statuses = [status for status, _ in found]
    assert statuses == ["rejected", "review", "review", "accepted", "review", "rejected"]
    words = ("no person", "confidence", "in the picture", "", "not below 60", "above 150")
    assert all(word in reason for word, (_, reason) in zip(words, found, strict=True))
