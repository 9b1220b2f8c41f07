"""Dense points of the visible surface against the body's."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.kinematics import State
from pchmr.annotate.residuals.depth import uses_dense
from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights

TANGENTIAL = 0.2  # weight of the distance along the surface, against 1 along its normal
NORMAL_GAIN = math.sqrt(1 + TANGENTIAL**2) - TANGENTIAL


def observed_points(state: State, seen: Evidence) -> tuple[Tensor, Tensor, Tensor]:
    """Observed points in metres, their rays, and the rays' change with log focal."""
    assert seen.rays is not None and seen.ray_depth is not None
    rays, slope = seen.rays.clone(), torch.zeros_like(seen.rays)
    if seen.rays_follow_focal:
        rays[..., :2] = rays[..., :2] / state.log_focal.exp()[:, None, None]
        slope[..., :2] = -rays[..., :2]
    z = state.depth[:, :1] * seen.ray_depth + state.depth[:, 1:]
    return z[..., None] * rays, rays, z[..., None] * slope


def dense_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """Body surface against observed points: mostly along the normal, a little along it."""
    if not uses_dense(frame, weights):
        return None
    surface, matches, ray_depth = frame.surface, frame.matches, seen.ray_depth
    assert surface is not None and matches is not None
    assert ray_depth is not None and seen.ray_confidence is not None
    observed, rays, ray_slope = observed_points(frame.state, seen)
    normal = _pick(surface.normals(frame.chain), matches)
    jacobian = frame.jacobian_of(surface.rig) if frame.is_linear else None
    vertices = frame.points_of(surface.rig) if jacobian is None else jacobian.points
    residual = _pick(vertices, matches) - observed

    def derive() -> Tensor:
        columns, slope = frame.skeleton.columns, frame.blank(residual)
        by_vertex = (jacobian or frame.jacobian_of(surface.rig)).derivative
        moved = _pick(by_vertex.flatten(start_dim=2), matches).unflatten(-1, (3, -1))
        slope[..., : moved.shape[-1]] = moved
        slope[..., columns.depth.start] = -rays * ray_depth[..., None]
        slope[..., columns.depth.start + 1] = -rays
        slope[..., columns.focal.start] = -ray_slope
        along = (slope * normal[..., None]).sum(dim=-2, keepdim=True)
        return TANGENTIAL * slope + (NORMAL_GAIN * normal)[..., None] * along

    weight = weights.dense * seen.ray_confidence
    return Term("dense", _stretch(residual, normal), derive, weight, weights.rho_dense)


def _stretch(vector: Tensor, normal: Tensor) -> Tensor:
    """The vector weighed fully along the normal and little across, a symmetric square root."""
    along = (vector * normal).sum(dim=-1, keepdim=True)
    return TANGENTIAL * vector + NORMAL_GAIN * along * normal


def _pick(values: Float[Tensor, "batch points width"], rows: Tensor) -> Tensor:
    """Rows (B, n) of values (B, P, w)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))
