"""How far off a label probably is: signals of a fit, a calibrated predictor in mm, a verdict.

A low reprojection error says almost nothing about depth, so several signals are weighed: a ridge
regression of the log error on their logs, then an isotonic map to millimetres. The shipped
predictor was fitted on synthetic people with oracle noise; `fit_predictor` fits one on your own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator, Fit
from pchmr.annotate.keypoints import LABEL_POINTS
from pchmr.annotate.kinematics import differentiate, points, pose
from pchmr.annotate.observations import LEAST_SEEN, Observations
from pchmr.annotate.residuals import Term
from pchmr.annotate.solver import normal_equations
from pchmr.body.joints import COCO_17
from pchmr.config import SettingError
from pchmr.perception.names import read_names
from pchmr.runs import write_bytes

ASSET = Path(__file__).parent / "assets" / "quality_v1.json"
Status = Literal["accepted", "review", "rejected"]
RIDGE = 3.0
FLOOR = 1e-3
BODY_CONFIDENCE, LEAST_BODY, LEAST_INSIDE = 0.5, 8, 0.8

NO_DEPTH = "no depth of the person was observed, the predictor needs it"
NO_POINTS = "no point on the person was observed, the predictor needs some"


@dataclass(frozen=True)
class Inspection:
    """What a fit tells about itself.

    Attributes:
        signals: Positive numbers (N,) by name; NaN for depth that was not observed.
        residuals: Mean residual (N,) of every term, in its own unit.
        joint_std: Standard deviation of each labeled joint about the root, metres, by the
            posterior of the last linearization.
    """

    signals: dict[str, Float[np.ndarray, " frames"]]
    residuals: dict[str, Float[np.ndarray, " frames"]]
    joint_std: Float[np.ndarray, "frames joints"]


@torch.no_grad()
def inspect(annotator: Annotator, fit: Fit) -> Inspection:
    """Signals, residuals and posterior uncertainty of fitted frames."""
    objective, weights = fit.objective, fit.weights
    matches = objective.associate(fit.state, weights)
    terms, _ = objective.terms(fit.state, weights, matches=matches, derive=True)
    std = _joint_std(annotator, fit, terms)
    residuals = {term.name: _mean_residual(term) for term in terms}
    energy = {term.name: term.energy() for term in terms}
    signals = {
        "spread": std.mean(dim=-1),
        "keypoints": residuals["keypoints"],
        "worst_keypoint": _worst(terms[0]),
        "pull": energy["keypoints"] / terms[0].weight.square().sum(dim=-1).clamp_min(FLOOR),
        "evidence": objective.evidence.confidence.sum(dim=-1),
        "prior": residuals["prior"],
        "shape": fit.state.betas.norm(dim=-1),
        "margin": fit.margin.clamp_min(0),
        "ambiguity": fit.ambiguity,
        "relief": _relief(annotator, fit),
    }
    evidence = objective.evidence
    signals |= {name: residuals[name] for name in ("limits", "scale") if name in residuals}
    for name, sure in (("depth", evidence.depth_confidence), ("dense", evidence.ray_confidence)):
        if name in residuals and sure is not None:
            signals[name] = residuals[name].masked_fill(sure.sum(dim=-1) <= 0, torch.nan)
    return Inspection(
        {name: value.double().cpu().numpy() for name, value in signals.items()},
        {name: value.double().cpu().numpy() for name, value in residuals.items()},
        std.double().cpu().numpy(),
    )


def _mean_residual(term: Term) -> Tensor:
    share = term.weight / term.weight.sum(dim=-1, keepdim=True).clamp_min(1e-9)
    return (share * term.residual.norm(dim=-1)).sum(dim=-1)


def _worst(term: Term) -> Tensor:
    seen = term.weight > 0.3 * term.weight.amax(dim=-1, keepdim=True)
    return (term.residual.norm(dim=-1) * seen).amax(dim=-1)


def _relief(annotator: Annotator, fit: Fit) -> Tensor:
    """Mean distance of the joints from the plane through the root that faces the camera, metres.

    What lies far before or behind that plane could lie as far on its other side in two dimensions.
    """
    rig = annotator.points.rig.take(annotator.points.indices(LABEL_POINTS))
    joints = points(rig, pose(annotator.skeleton, fit.state), fit.state.betas)
    z = joints[..., 2]
    return (z - z.mean(dim=-1, keepdim=True)).abs().mean(dim=-1)


def _joint_std(annotator: Annotator, fit: Fit, terms: list[Term]) -> Tensor:
    rig = annotator.points.rig.take(annotator.points.indices(LABEL_POINTS))
    chain = pose(annotator.skeleton, fit.state)
    jacobian = differentiate(rig, annotator.skeleton, chain, fit.state.betas).derivative
    root = list(COCO_17.indices(COCO_17.root_names))
    jacobian = jacobian - jacobian[:, root].mean(dim=1, keepdim=True)
    normal, _ = normal_equations(terms)
    normal = normal.double() + 1e-6 * torch.eye(normal.shape[-1]).to(normal.device)
    width = jacobian.shape[-1]
    covariance = torch.linalg.inv(normal)[:, :width, :width].to(jacobian)
    variance = (jacobian.flatten(1, 2) @ covariance * jacobian.flatten(1, 2)).sum(dim=-1)
    return variance.clamp_min(0).unflatten(-1, (-1, 3)).sum(dim=-1).sqrt()


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
        return np.where(known, np.interp(self._score(signals), *self.knots), np.nan)

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
    """Fits a predictor on frames whose error is known."""
    names = tuple(sorted(signals))
    logs = _logs(signals, names)
    mean, sd = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-6)
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
        table = json.loads(path.read_text(encoding="utf-8"))
        return {
            mode: ErrorPredictor(
                tuple(values["names"]),
                *(np.array(values[n], dtype=np.float64) for n in ("mean", "sd", "slope", "knots")),
            )
            for mode, values in table.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(
            f"cannot read error predictors {path}: {error}; make them with "
            "pchmr.annotate.fit_predictor and save_predictors"
        ) from None


def predict_mm(
    predictors: Mapping[str, ErrorPredictor], mode: str, inspection: Inspection
) -> Float[np.ndarray, " frames"]:
    """Expected MPJPE; NaN for a mode without a predictor (the SMPLify-X baselines)."""
    if mode in predictors:
        return predictors[mode].predict_mm(inspection.signals)
    return np.full(len(inspection.joint_std), np.nan)


def why_unknown(
    predictors: Mapping[str, ErrorPredictor], mode: str, inspection: Inspection
) -> list[str]:
    """What every frame lacks for a prediction; meant for those that have none."""
    if mode not in predictors:
        return [f"no calibrated predictor for mode {mode}"] * len(inspection.joint_std)
    blank = np.full(len(inspection.joint_std), np.nan)
    lacks = [
        np.isnan(inspection.signals.get(name, blank)) & (name in predictors[mode].names)
        for name in ("depth", "dense")
    ]
    return [
        NO_DEPTH if no_depth else NO_POINTS if no_points else "the fit gave no finite signals"
        for no_depth, no_points in zip(*lacks, strict=True)
    ]


def verdicts(
    observations: Observations,
    predicted_mm: np.ndarray,
    *,
    accept_mm: float,
    reject_mm: float,
    unknown: Sequence[str] | None = None,
    foreign: str = "",
) -> list[tuple[Status, str]]:
    """Status of every frame and the reason for anything but acceptance.

    Args:
        observations: Only keypoints that the body has count.
        predicted_mm: Of every frame; NaN is never accepted.
        accept_mm: Below it a frame is accepted.
        reject_mm: Above it a frame is rejected.
        unknown: Reasons for NaN.
        foreign: Why no prediction can be relied on, so that no frame is accepted.
    """
    table = observations.keypoints_2d[:, list(read_names(observations.keypoint_names).columns)]
    confidence = np.nan_to_num(table[..., 2])
    known = np.isfinite(table).all(axis=-1)
    num_sure = (known & (confidence > BODY_CONFIDENCE)).sum(axis=1)
    xy, size = np.nan_to_num(table[..., :2]), observations.image_size[:, None]
    inside = known & (confidence > 0) & ((xy >= 0) & (xy <= size)).all(axis=-1)
    share = inside.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    reasons = unknown or ["the error cannot be predicted"] * len(predicted_mm)
    return [
        _no_person(int(seen))
        or _verdict(int(sure), float(within), float(mm), accept_mm, reject_mm, why, foreign)
        for seen, sure, within, mm, why in zip(
            observations.num_seen, num_sure, share, predicted_mm, reasons, strict=True
        )
    ]


def known_errors(observations: Observations, predicted_mm: np.ndarray) -> np.ndarray:
    """Predictions, NaN for frames in which no person was seen."""
    return np.where(observations.num_seen >= LEAST_SEEN, predicted_mm, np.nan)


def _no_person(seen: int) -> tuple[Status, str] | None:
    if seen >= LEAST_SEEN:
        return None
    return "rejected", f"no person: fewer than {LEAST_SEEN} keypoints were observed"


def _verdict(
    sure: int,
    within: float,
    mm: float,
    accept_mm: float,
    reject_mm: float,
    unknown: str,
    foreign: str,
) -> tuple[Status, str]:
    if mm > reject_mm:
        return "rejected", f"predicted error {mm:.0f} mm is above {reject_mm:.0f} mm"
    if sure < LEAST_BODY:
        return "review", f"only {sure} keypoints have a confidence above {BODY_CONFIDENCE}"
    if within < LEAST_INSIDE:
        return "review", f"only {100 * within:.0f} % of the keypoints lie in the picture"
    if np.isnan(mm):
        return "review", unknown
    if not mm <= accept_mm:
        return "review", f"predicted error {mm:.0f} mm is not below {accept_mm:.0f} mm"
    if foreign:
        return "review", foreign
    return "accepted", ""
