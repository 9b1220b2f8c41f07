"""Observed depth at keypoints, and what a unit of it may be worth in metres."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.keypoints import NEAREST_DEPTH
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights, sharpened

DEPTH_SD = 0.05
HELD_SCALE_SD, HELD_SHIFT_SD = 0.005, 0.01  # of metric depth that is trusted; the latter metres
RELATIVE_SCALE_SD = 0.15
SHIFT_REACH = 3.0  # metres at which doubts of a metric scale were met, beside the person's distance
SHIFT_RHO = 0.75  # metres by which metric depth may be off before it stops to pull
AFFINE_SCALE = (0.13, 0.10)  # metres per standard deviation of the person's depth: mean, sd


def scale_prior(seen: Evidence) -> tuple[float, float]:
    """Metres that a unit of observed depth is worth: mean and standard deviation."""
    if seen.depth_kind == "metric":
        return 1.0, math.hypot(HELD_SCALE_SD, seen.depth_scale_sd)
    return (1.0, RELATIVE_SCALE_SD) if seen.depth_kind == "relative" else AFFINE_SCALE


def shift_sd(seen: Evidence) -> Float[Tensor, " batch"]:
    """Metres by which metric depth may be off as a whole; trusted depth holds the person."""
    assert seen.depth_mean is not None
    still = math.hypot(HELD_SHIFT_SD, SHIFT_REACH * seen.depth_scale_sd)
    return (still**2 + (seen.depth_scale_sd * seen.depth_mean).square()).sqrt()


def uses_keypoint_depth(seen: Evidence, weights: Weights) -> bool:
    """Whether depth at keypoints plays a part in a stage."""
    return bool(weights.depth_sd) and seen.depth is not None


def uses_dense(frame: Frame, weights: Weights) -> bool:
    """Whether dense points play a part in a stage."""
    return bool(weights.dense) and frame.matches is not None


def depth_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """Keypoint depth against the observed surface, metres along the optical axis."""
    if not uses_keypoint_depth(seen, weights):
        return None
    depth, confidence, state = seen.depth, seen.depth_confidence, frame.state
    assert depth is not None and confidence is not None
    z = frame.keypoints[..., 2]
    if seen.surface_offset is not None:
        z = z - seen.surface_offset
    change = torch.ones_like(z)
    if seen.depth_kind == "affine_disparity":
        assert seen.depth_reference is not None
        z = z.clamp_min(NEAREST_DEPTH)
        square = seen.depth_reference[:, None].square()
        change, z = -square / z.square(), square / z
    residual = (z - state.depth[:, :1] * depth - state.depth[:, 1:])[..., None]

    def derive() -> Tensor:
        slope = frame.blank(residual)
        moved = change[..., None] * frame.keypoint_jacobian.derivative[..., 2, :]
        slope[:, :, 0, : moved.shape[-1]] = moved
        ones = torch.ones_like(depth)
        slope[:, :, 0, frame.skeleton.columns.depth] = -torch.stack([depth, ones], dim=-1)
        return slope

    term = Term("depth", residual, derive, confidence / weights.depth_sd, weights.rho_depth)
    return sharpened(term, seen.depth_sharpness)


def scale_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """How many metres a unit of observed depth may be."""
    if not (uses_keypoint_depth(seen, weights) or uses_dense(frame, weights)):
        return None
    mean, sd = scale_prior(seen)
    residual = (frame.state.depth[:, :1] - mean)[..., None]
    column = frame.skeleton.columns.depth.start
    weight = torch.full_like(residual[..., 0], 1 / sd)
    return Term("scale", residual, lambda: frame.unit(residual, column), weight)


def shift_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """Metres between where metric depth puts the person and where the fit does."""
    mean = seen.depth_mean
    if mean is None or not (uses_keypoint_depth(seen, weights) or uses_dense(frame, weights)):
        return None
    residual = (frame.state.depth[:, 1] - mean)[:, None, None]
    known = torch.where(mean > 0, 1 / shift_sd(seen), 0.0)
    column = frame.skeleton.columns.depth.stop - 1
    return Term("shift", residual, lambda: frame.unit(residual, column), known[:, None], SHIFT_RHO)
