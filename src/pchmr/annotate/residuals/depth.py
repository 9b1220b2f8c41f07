"""Observed depth at keypoints, and what a unit of it may be worth in metres."""

import torch
from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.keypoints import NEAREST_DEPTH
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights, sharpened

DEPTH_SD = 0.05
METRIC_SCALE_SD = 0.05
SCALES = {"metric": (1.0, METRIC_SCALE_SD), "relative": (1.0, 0.15)}
METRIC_SHIFT_SD = 0.15  # metres, beside the error of the scale
SHIFT_RHO = 0.75  # metres by which metric depth may be off before it stops to pull
AFFINE_SCALE = (0.13, 0.10)  # metres per standard deviation of the person's depth: mean, sd


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
    mean, sd = SCALES.get(seen.depth_kind, AFFINE_SCALE)
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
    sd = (METRIC_SHIFT_SD**2 + (METRIC_SCALE_SD * mean).square()).sqrt()
    known = torch.where(mean > 0, 1 / sd, 0.0)
    column = frame.skeleton.columns.depth.stop - 1
    return Term("shift", residual, lambda: frame.unit(residual, column), known[:, None], SHIFT_RHO)
