"""Signals of a fit to millimetres: a ridge regression of the log error, then an isotonic map.

A low reprojection error says almost nothing about depth, so several signals are weighed. The
shipped predictors were fitted on synthetic people; `fit_predictor` fits one on your own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pchmr.annotate.quality.inspection import Inspection
from pchmr.config import SettingError
from pchmr.door import FileError, read_json
from pchmr.runs import shipped, write_bytes

ASSET = Path(__file__).parents[1] / "assets" / "quality_v1.json"
RIDGE = 3.0
LEAST_SPREAD = 1e-4  # of the log of a signal over the frames that a predictor is fitted on
FLOOR = 1e-3
RANGE = 3.5  # standard deviations of a signal's log that a predictor is taken to know
FALLING = ("evidence", "margin")  # signals of which more is better
MOST_BEYOND = 50.0
ALONE = "deposer-keypoint-alone"  # joints in space without a network's mesh beside them
LESS: dict[str, tuple[str, ...]] = {
    "deposer-dense": ("deposer-keypoint", ALONE, "strong-2d"),
    "deposer-keypoint": (ALONE, "strong-2d"),
}
"""What a mode comes down to in frames without the depth, or the network, that it needs."""


@dataclass(frozen=True)
class ErrorPredictor:
    """Signals to millimetres.

    Attributes:
        names: Signals, in order.
        mean: Of the logs.
        sd: Of the logs.
        slope: Of the log error per standard deviation; the last entry is its level.
        knots: Log predictions and mm between which the isotonic map is drawn.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " signals"]
    sd: Float[np.ndarray, " signals"]
    slope: Float[np.ndarray, " weights"]
    knots: Float[np.ndarray, "2 knots"]

    def predict_mm(self, signals: Mapping[str, np.ndarray]) -> Float[np.ndarray, " frames"]:
        """Expected MPJPE of every frame, mm; NaN where a signal is missing."""
        if any(name not in signals for name in self.names):
            return np.full(len(next(iter(signals.values()))), np.nan)
        known = ~np.any([np.isnan(signals[name]) for name in self.names], axis=0)
        usual = np.interp(self._score(signals), *self.knots)
        return np.where(known, usual * self.beyond(signals), np.nan)

    def beyond(self, signals: Mapping[str, np.ndarray]) -> Float[np.ndarray, " frames"]:
        """Factor by which signals leave the range that the predictor was fitted on; at least 1.

        Nothing is known there but that residuals larger than any before tell of a worse fit, so
        each counts as often as it is larger than the end of its range.
        """
        above = (_logs(signals, self.names) - self.mean) / self.sd - RANGE
        rises = np.array([name not in FALLING for name in self.names])
        most = np.log(MOST_BEYOND)
        return np.exp(np.clip((above.clip(0) * self.sd * rises).sum(axis=1), 0, most))

    def knows(self, signals: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " frames"]:
        """Whether no signal is worse than any that the predictor was fitted on."""
        if any(name not in signals for name in self.names):
            return np.zeros(len(next(iter(signals.values()))), dtype=bool)
        away = (_logs(signals, self.names) - self.mean) / self.sd
        sign = np.where([name in FALLING for name in self.names], -1, 1)
        return np.all(away * sign <= RANGE, axis=1)

    def _score(self, signals: Mapping[str, np.ndarray]) -> np.ndarray:
        table = _design(signals, self.names, self.mean, self.sd)
        return table @ self.slope


def _logs(signals: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.log(np.nan_to_num(signals[n], posinf=1e6) + FLOOR) for n in names], axis=-1)


def _design(
    signals: Mapping[str, np.ndarray], names: tuple[str, ...], mean: np.ndarray, sd: np.ndarray
) -> np.ndarray:
    table = np.clip((_logs(signals, names) - mean) / sd, -4, 4)
    return np.concatenate([table, np.ones((len(table), 1))], axis=1)


def fit_predictor(
    signals: Mapping[str, np.ndarray], error_mm: Float[np.ndarray, " frames"]
) -> ErrorPredictor:
    """Fits a predictor on frames whose error is known; signals that never change tell nothing."""
    spread = {name: _logs(signals, (name,)).std() for name in signals}
    names = tuple(sorted(name for name, sd in spread.items() if sd > LEAST_SPREAD))
    logs = _logs(signals, names)
    mean, sd = logs.mean(axis=0), logs.std(axis=0)
    table = _design(signals, names, mean, sd)
    penalty = RIDGE * np.eye(table.shape[1])
    penalty[-1, -1] = 0
    slope = np.linalg.solve(table.T @ table + penalty, table.T @ np.log(error_mm))
    return ErrorPredictor(names, mean, sd, slope, isotonic(table @ slope, error_mm))


def isotonic(
    score: Float[np.ndarray, " frames"], value: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "2 knots"]:
    """Knots of the rising map from score to value of least squares (pool adjacent violators)."""
    order = np.argsort(score, kind="stable")
    blocks: list[list[float]] = []
    for s, v in zip(score[order], value[order], strict=True):
        blocks.append([float(s), float(v), 1.0])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            s2, v2, n2 = blocks.pop()
            s1, v1, n1 = blocks.pop()
            total = n1 + n2
            blocks.append([(s1 * n1 + s2 * n2) / total, (v1 * n1 + v2 * n2) / total, total])
    return np.array(blocks).T[:2]


def coverage_curve(
    predicted_mm: Float[np.ndarray, " frames"],
    error_mm: Float[np.ndarray, " frames"],
    shares: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5, 0.25),
) -> list[tuple[float, float]]:
    """Mean error of the best share of the frames by prediction, for each share."""
    order = np.argsort(predicted_mm, kind="stable")
    found = []
    for share in shares:
        kept = order[: max(1, round(share * len(order)))]
        found.append((share, float(error_mm[kept].mean())))
    return found


def save_predictors(path: Path, predictors: Mapping[str, ErrorPredictor]) -> None:
    """Writes predictors by mode as JSON."""
    table = {
        mode: {
            k: v if isinstance(v, tuple) else np.round(v, 5).tolist() for k, v in vars(p).items()
        }
        for mode, p in predictors.items()
    }
    write_bytes(path, (json.dumps(table) + "\n").encode())


def load_predictors(path: Path = ASSET) -> dict[str, ErrorPredictor]:
    """Predictors by mode, or by source and mode.

    Raises:
        SettingError: The file is missing or not one of `save_predictors`.
    """
    try:
        return {mode: _predictor(values) for mode, values in read_json(shipped(path)).items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = error.reason if isinstance(error, FileError) else error
        raise SettingError(
            f"cannot read error predictors {path}: {reason}; make them with "
            "pchmr.annotate.fit_predictor and save_predictors"
        ) from None


def _predictor(values: Mapping[str, Any]) -> ErrorPredictor:
    """A predictor of a file, once its tables agree; `ValueError` where they do not."""
    names = tuple(str(name) for name in values["names"])
    tables = {n: np.array(values[n], dtype=np.float64) for n in ("mean", "sd", "slope", "knots")}
    count, knots = len(names), tables["knots"]
    shapes = {
        "mean": (count,),
        "sd": (count,),
        "slope": (count + 1,),
        "knots": (2, knots.size // 2),
    }
    for name, table in tables.items():
        if table.shape != shapes[name] or not table.size or not np.isfinite(table).all():
            raise ValueError(f"{name} is no table of {shapes[name]} finite numbers")
    if (tables["sd"] <= 0).any() or (np.diff(knots[0]) < 0).any():
        raise ValueError("sd must be positive, and knots must rise")
    return ErrorPredictor(names, **tables)


def predict_mm(
    predictors: Mapping[str, ErrorPredictor], judge: str, inspection: Inspection
) -> Float[np.ndarray, " frames"]:
    """Expected MPJPE; NaN without a predictor.

    A frame without the depth that its mode needs was fitted without it, and is judged as such.

    Args:
        predictors: By mode, or by source and mode.
        judge: Name of one of them.
        inspection: Of the fit.
    """
    found = np.full(len(inspection.joint_std), np.nan)
    for own in _in_turn(predictors, judge):
        found = np.where(np.isnan(found), own.predict_mm(inspection.signals), found)
    return found


def is_usual(
    predictors: Mapping[str, ErrorPredictor], judge: str, inspection: Inspection
) -> Bool[np.ndarray, " frames"]:
    """Whether the first predictor that has its signals has seen evidence like this."""
    for own in _in_turn(predictors, judge):
        if set(own.names) <= set(inspection.signals):
            return own.knows(inspection.signals)
    return np.ones(len(inspection.joint_std), dtype=bool)


def _in_turn(predictors: Mapping[str, ErrorPredictor], judge: str) -> list[ErrorPredictor]:
    """A predictor and those of what its mode comes down to."""
    source, _, mode = judge.rpartition("/")
    prefix = f"{source}/" if source else ""
    names = (f"{prefix}{name}" for name in (mode, *LESS.get(mode, ())))
    return [predictors[name] for name in names if name in predictors]


def why_unknown(predictors: Mapping[str, ErrorPredictor], judge: str) -> str:
    """Why a frame has no prediction."""
    if judge not in predictors:
        return f"no calibrated predictor for mode {judge}"
    return "the fit gave no finite signals"
