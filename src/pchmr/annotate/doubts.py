"""What makes a fit doubtful though its residuals are small, and what that adds to its error.

An error predictor knows only people like those it was fitted on. Here stands what physics says
beyond that: sides that fit better when exchanged, a body upside down, a camera that no camera is,
depth that puts the person elsewhere, a person of few pixels or few keypoints. Every doubt gives
a floor under the error or a factor on it that grows with the doubt and is nothing within what is
usual. What is certainly wrong is told in `plausibility`, before the fit; what would explain the
same picture better, in `alternatives`.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.alternatives import WRONG_SIDES_MM, contradicted_mm, exchanged_mm, ramp
from pchmr.annotate.deposer import Fit
from pchmr.annotate.kinematics import pose
from pchmr.annotate.observed import Observations
from pchmr.annotate.plausibility import extent_px, inside_share
from pchmr.annotate.residuals.depth import scale_prior, shift_sd
from pchmr.body.joints import SMPL_24

REACH_MM = 450.0  # mean distance of the joints from the root
USUAL_TILT, SURE_TILT = 75.0, 110.0  # degrees of the trunk from upright
USUAL_OFFSET, SURE_OFFSET = 0.25, 0.8  # of half a picture from its middle to the principal point
USUAL_FOCALS = (0.55, 8.0)  # of the longer side of the picture
USUAL_STRETCH = 1.1  # of one focal length over the other
USUAL_ANGLE = 2.0  # extent of the person over the focal length
USUAL_PX = 40.0  # extent of the person
USUAL_SEEN = 12  # keypoints
FACELESS = 1.6  # times the error where no point of the head tells front from back
FOREIGN = 1 / 0.57  # true over predicted error of real people, seen in pixels alone
HEAD = ("nose", *(f"{side}_{part}" for side in ("left", "right") for part in ("eye", "ear")))
USUAL_INSIDE = 0.9  # share of the keypoints in the picture
USUAL_STRAIN = 3.0  # standard deviations of the scale and the shift of depth
LEAST_STRAIN = (0.02, 0.03)  # of the scale; metres of the shift: noise that bends trusted depth
LEAST_DOUBT = 0.1
MOST = 20.0  # largest factor of one doubt


@dataclass(frozen=True)
class Doubts:
    """What is doubtful of frames, by what it says.

    Attributes:
        factors: At least 1, on the predicted error.
        floors_mm: Under it; 0 where there is no doubt.
    """

    factors: dict[str, Float[ndarray, " frames"]]
    floors_mm: dict[str, Float[ndarray, " frames"]]

    def worsen(self, predicted_mm: Float[ndarray, " frames"]) -> Float[ndarray, " frames"]:
        """Predicted errors, raised by all doubts; NaN stays."""
        factor = np.prod(list(self.factors.values()), axis=0)
        return np.maximum(predicted_mm * factor, np.max(list(self.floors_mm.values()), axis=0))

    def words(self) -> list[str]:
        """The doubt that counts most in every frame; empty where there is none."""
        names = [*self.factors, *self.floors_mm]
        weight = [np.log(factor) for factor in self.factors.values()]
        weight += [floor / WRONG_SIDES_MM for floor in self.floors_mm.values()]
        table = np.nan_to_num(np.stack(weight))
        most = table.argmax(axis=0)
        return [
            names[row] if table[row, frame] > LEAST_DOUBT else "" for frame, row in enumerate(most)
        ]


def doubts_of(observations: Observations, fit: Fit, *, is_settled: bool = True) -> Doubts:
    """What is doubtful of fitted frames.

    Args:
        observations: What was fitted.
        fit: Of the same frames.
        is_settled: Whether the fit minimizes its own objective, as those of `MODES` do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without a number stay NaN
        return Doubts(
            {
                "few keypoints or pixels of the person were seen": seen_factor(observations),
                "no point of the head tells front from back": head_factor(observations, fit),
                "hardly any camera has these intrinsics": camera_factor(observations),
                "depth puts the person elsewhere than the keypoints": depth_factor(fit),
            },
            {
                "left and right fit better exchanged": exchanged_mm(
                    observations, fit, is_settled=is_settled
                ),
                "depth shows another pose than the keypoints": contradicted_mm(fit),
                "the body does not stand upright in the picture": tilted_mm(fit),
                "the principal point is far from the picture's middle": off_center_mm(observations),
            },
        )


def excess(value: ndarray, usual: ndarray | float) -> ndarray:
    """How many times the usual a value is; 1 within it, and where nothing is known."""
    return np.clip(np.nan_to_num(value / usual, nan=1.0, posinf=MOST), 1.0, MOST)


def seen_factor(observations: Observations) -> Float[ndarray, " frames"]:
    """Few pixels, few keypoints, keypoints beside the picture."""
    few = excess(USUAL_SEEN / np.maximum(observations.num_seen, 1), 1.0)
    small = excess(USUAL_PX / extent_px(observations), 1.0)
    return few * small * excess(USUAL_INSIDE / np.maximum(inside_share(observations), 0.05), 1.0)


def is_flat(fit: Fit) -> bool:
    """Whether pixels alone were seen, nothing in space."""
    seen = fit.objective.evidence
    return all(one is None for one in (seen.depth, seen.rays, seen.bones))


def foreign_factor(fit: Fit) -> float:
    """By how much people of other sources are worse than rendered ones, where none is known."""
    return FOREIGN if is_flat(fit) else 1.0


def head_factor(observations: Observations, fit: Fit) -> Float[ndarray, " frames"]:
    """Nothing of the head was seen, and nothing of depth: a back may be taken for a front."""
    if not is_flat(fit):
        return np.ones(len(observations))
    rows = observations.reading.rows(HEAD)
    has_head = (observations.confidence[:, list(rows)] > 0).any(axis=1)
    return np.where(has_head, 1.0, FACELESS)


def camera_factor(observations: Observations) -> Float[ndarray, " frames"]:
    """A focal length that few cameras have, or one that makes the person fill the view."""
    if observations.intrinsics is None:
        return np.ones(len(observations))
    focal = observations.intrinsics[:, [0, 1], [0, 1]]
    share = focal[:, 0] / observations.image_size.max(axis=1)
    low, high = USUAL_FOCALS
    stretch = excess(focal.max(axis=1) / focal.min(axis=1), USUAL_STRETCH)
    wide = excess(extent_px(observations) / focal[:, 0], USUAL_ANGLE)
    return excess(low / share, 1.0) * excess(share, high) * stretch * wide


def depth_factor(fit: Fit) -> Float[ndarray, " frames"]:
    """Depth whose scale or distance had to be bent to meet the keypoints."""
    seen, state = fit.objective.evidence, fit.state
    if seen.depth is None and seen.rays is None:
        return np.ones(len(seen))
    mean, sd = scale_prior(seen)
    strain = (state.depth[:, 0] - mean).abs() / max(sd, LEAST_STRAIN[0])
    factor = excess(strain.double().cpu().numpy(), USUAL_STRAIN)
    if seen.depth_mean is not None:
        usual = shift_sd(seen).clamp_min(LEAST_STRAIN[1])
        away = (state.depth[:, 1] - seen.depth_mean).abs() / usual
        shift = away * (seen.depth_mean > 0)
        factor = factor * excess(shift.double().cpu().numpy(), USUAL_STRAIN)
    return factor


def tilted_mm(fit: Fit) -> Float[ndarray, " frames"]:
    """Error of a body that should stand upright and lies far from it, or on its head."""
    joints = pose(fit.objective.skeleton, fit.state).joints
    pelvis, neck = (joints[:, SMPL_24.index(name)] for name in ("pelvis", "neck"))
    up = torch.nn.functional.normalize(pelvis - neck, dim=-1)[:, 1]
    tilt = torch.rad2deg(torch.acos(up.clamp(-1, 1))).double().cpu().numpy()
    return ramp(tilt, USUAL_TILT, SURE_TILT) * 2 * REACH_MM * np.sin(np.deg2rad(tilt) / 2)


def off_center_mm(observations: Observations) -> Float[ndarray, " frames"]:
    """Error of a body seen along a ray that is as wrong as the principal point may be."""
    if observations.intrinsics is None:
        return np.zeros(len(observations))
    size, camera = observations.image_size, observations.intrinsics
    offset = camera[:, :2, 2] - size / 2
    doubt = ramp(np.abs(offset / (size / 2)).max(axis=1), USUAL_OFFSET, SURE_OFFSET)
    angle = np.arctan(np.linalg.norm(offset, axis=1) / camera[:, 0, 0])
    return doubt * 2 * REACH_MM * np.sin(angle / 2)
