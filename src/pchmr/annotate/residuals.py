"""Every term of the fit: residual, analytic derivative, weight, and where it stops to pull.

A term's energy is `sum weight^2 rho^2 r^2 / (rho^2 + r^2)` over its residual vectors of length r
(Geman and McClure, 1985), or `sum weight^2 r^2` without rho. Units are metres, radians and
reference pixels: pixels of a picture in which the person is about `REFERENCE_SIDE` long.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.kinematics import (
    Chain,
    Columns,
    PointJacobian,
    Skeleton,
    State,
    differentiate,
    log_jacobian,
    points,
    pose,
)
from pchmr.annotate.prior import PosePrior
from pchmr.annotate.rig import Rig
from pchmr.annotate.surface import Surface
from pchmr.geometry import rotmat_to_rotvec
from pchmr.perception.interfaces import DepthKind

REFERENCE_SIDE = 700.0
NEAREST_DEPTH = 0.1
PIXEL_SD = 6.0
DEPTH_SD = 0.05
TANGENTIAL = 0.2  # weight of the distance along the surface, against 1 along its normal
LIMIT_SD = 0.1  # radians beyond a joint limit
METRIC_SCALE_SD = 0.05
SCALES = {"metric": (1.0, METRIC_SCALE_SD), "relative": (1.0, 0.15)}
METRIC_SHIFT_SD = 0.15  # metres, beside the error of the scale
SHIFT_RHO = 0.75  # metres by which metric depth may be off before it stops to pull
AFFINE_SCALE = (0.13, 0.10)  # metres per standard deviation of the person's depth: mean, sd


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was observed of a batch of frames.

    Attributes:
        keypoints: Pixels.
        confidence: 0 where a keypoint is missing.
        pixel_unit: Pixels of the picture per reference pixel.
        center: Principal point, pixels.
        focal: Focal length at the start, pixels.
        focal_sd: Standard deviation of its logarithm; 0 holds it.
        depth: Depth of the surface seen at the keypoints, centred (and scaled, if not metric).
        depth_confidence: 0 where depth is missing.
        depth_kind: Relation of `depth` to metres.
        depth_reference: Metres; turns disparities into metres.
        depth_mean: Metres; where metric depth puts the person.
        surface_offset: How much farther each keypoint lies than the surface in front of it.
        keypoint_sharpness: `PIXEL_SD` over the keypoint's own standard deviation; None is 1.
        depth_sharpness: `DEPTH_SD` over the depth's own standard deviation; None is 1.
        rays: Directions of dense depth points, z is 1.
        ray_depth: Their depth, centred like `depth`.
        ray_confidence: 0 for padding.
        rays_follow_focal: Whether rays were made from pixels with `focal`.
    """

    keypoints: Float[Tensor, "batch keypoints 2"]
    confidence: Float[Tensor, "batch keypoints"]
    pixel_unit: Float[Tensor, " batch"]
    center: Float[Tensor, "batch 2"]
    focal: Float[Tensor, " batch"]
    focal_sd: Float[Tensor, " batch"]
    depth: Float[Tensor, "batch keypoints"] | None = None
    depth_confidence: Float[Tensor, "batch keypoints"] | None = None
    depth_kind: DepthKind = "metric"
    depth_reference: Float[Tensor, " batch"] | None = None
    depth_mean: Float[Tensor, " batch"] | None = None
    surface_offset: Float[Tensor, " keypoints"] | None = None
    keypoint_sharpness: Float[Tensor, "batch keypoints"] | None = None
    depth_sharpness: Float[Tensor, "batch keypoints"] | None = None
    rays: Float[Tensor, "batch rays 3"] | None = None
    ray_depth: Float[Tensor, "batch rays"] | None = None
    ray_confidence: Float[Tensor, "batch rays"] | None = None
    rays_follow_focal: bool = True

    def __len__(self) -> int:
        return len(self.focal)

    def take(self, rows: Tensor) -> "Evidence":
        """Some frames."""
        shared = ("depth_kind", "surface_offset", "rays_follow_focal")
        values: dict[str, Any] = {
            name: value if name in shared or value is None else value[rows]
            for name, value in vars(self).items()
        }
        return Evidence(**values)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One stage's weights: standard deviations, scales of the priors, and robust radii.

    Attributes:
        prior: Factor on the pose prior's whitened residual.
        shape: Factor on betas.
        rho_px: Reference pixels beyond which a keypoint stops to pull.
        depth_sd: Metres; 0 leaves keypoint depth out.
        rho_depth: Metres.
        dense: Weight per metre of a dense point; 0 leaves them out.
        rho_dense: Metres.
        limits: Factor on joint limits.
        free: "root": root, translation, depth, focal; "camera": the first two; "pose": the others.
    """

    prior: float = 1.0
    shape: float = 1.0
    rho_px: float = 60.0
    depth_sd: float = 0.0
    rho_depth: float = 0.12
    dense: float = 0.0
    rho_dense: float = 0.12
    limits: float = 1.0
    free: Literal["root", "camera", "pose", "all"] = "all"


class Term(NamedTuple):
    """A group of residual vectors (B, n, d), their derivative (B, n, d, C) or None, weights (B, n).

    `constant` (B,) is energy that no unknown changes smoothly, such as a mixture component's.
    """

    name: str
    residual: Tensor
    derivative: Tensor | None
    weight: Tensor
    rho: float = math.inf
    constant: Tensor | None = None

    def energy(self) -> Float[Tensor, " batch"]:
        """Robust energy of each frame."""
        squares = self.residual.square().sum(dim=-1)
        if math.isfinite(self.rho):
            squares = squares / (1 + squares / self.rho**2)
        total = (self.weight.square() * squares).sum(dim=-1)
        return total if self.constant is None else total + self.constant

    def pull(self) -> Float[Tensor, "batch n"]:
        """Square root of the weight of each vector in iteratively reweighted least squares."""
        if not math.isfinite(self.rho):
            return self.weight
        squares = self.residual.square().sum(dim=-1)
        return self.weight / (1 + squares / self.rho**2)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """All terms over one body, one prior and one batch of evidence.

    Attributes:
        skeleton: Of the body.
        rig: Keypoints, in the order of the evidence.
        prior: Of local rotations, and joint limits.
        surface: Vertices that meet dense depth; None leaves that term out.
    """

    skeleton: Skeleton
    rig: Rig
    prior: PosePrior
    surface: Surface | None
    evidence: Evidence

    def take(self, rows: Tensor) -> "Objective":
        """The same objective for some frames."""
        return Objective(
            skeleton=self.skeleton,
            rig=self.rig,
            prior=self.prior,
            surface=self.surface,
            evidence=self.evidence.take(rows),
        )

    def terms(
        self, state: State, weights: Weights, *, matches: Tensor | None, derive: bool
    ) -> tuple[list[Term], Chain]:
        """Terms at a state, with derivatives where asked; `matches` from `associate`."""
        chain = pose(self.skeleton, state)
        jacobian = self._keypoints(state, chain, derive)
        found = [self._pixel_term(state, jacobian, weights)]
        by_keypoint = bool(weights.depth_sd) and self.evidence.depth is not None
        found += [self._depth_term(state, jacobian, weights)] if by_keypoint else []
        if by_keypoint or (weights.dense and matches is not None):
            found.append(self._scale_term(state, derive))
            if self.evidence.depth_mean is not None:
                found.append(self._shift_term(state, self.evidence.depth_mean, derive))
        if weights.dense and matches is not None:
            found.append(self._dense_term(state, chain, weights, matches, derive))
        found += self._prior_terms(state, chain, weights, derive)
        return found, chain

    def associate(self, state: State, weights: Weights) -> Tensor | None:
        """The surface vertex nearest to each dense point, or None where they play no part."""
        if not weights.dense or self.surface is None or self.evidence.rays is None:
            return None
        chain = pose(self.skeleton, state)
        return self.surface.nearest(chain, state.betas, self._dense_points(state)[0])

    def _keypoints(self, state: State, chain: Chain, derive: bool) -> PointJacobian | Tensor:
        if derive:
            return differentiate(self.rig, self.skeleton, chain, state.betas)
        return points(self.rig, chain, state.betas)

    def _blank(self, like: Tensor) -> Tensor:
        return like.new_zeros(*like.shape, len(self.skeleton.columns))

    def _pixel_term(self, state: State, keypoints: PointJacobian | Tensor, w: Weights) -> Term:
        """Reprojection error in reference pixels, less sharp where the keypoint is."""
        seen = self.evidence
        xyz = keypoints if isinstance(keypoints, Tensor) else keypoints.points
        scale = (seen.focal * state.log_focal.exp() / seen.pixel_unit)[:, None, None]
        z = xyz[..., 2:].clamp_min(NEAREST_DEPTH)
        plane = xyz[..., :2] / z
        wanted = (seen.keypoints - seen.center[:, None]) / seen.pixel_unit[:, None, None]
        residual = scale * plane - wanted
        derivative = None
        if not isinstance(keypoints, Tensor):
            derivative = self._blank(residual)
            per_point, factor = keypoints.derivative, (scale / z)[..., None]
            moved = per_point[..., :2, :] - plane[..., None] * per_point[..., 2:, :]
            derivative[..., : moved.shape[-1]] = factor * moved
            derivative[..., self.skeleton.columns.focal] = (scale * plane)[..., None]
        weight = seen.confidence / PIXEL_SD
        return _sharpened(
            Term("keypoints", residual, derivative, weight, w.rho_px), seen.keypoint_sharpness
        )

    def _depth_term(self, state: State, keypoints: PointJacobian | Tensor, w: Weights) -> Term:
        """Keypoint depth against the observed surface, metres along the optical axis."""
        seen, columns = self.evidence, self.skeleton.columns
        assert seen.depth is not None and seen.depth_confidence is not None
        xyz = keypoints if isinstance(keypoints, Tensor) else keypoints.points
        z = xyz[..., 2]
        if seen.surface_offset is not None:
            z = z - seen.surface_offset
        slope = torch.ones_like(z)
        if seen.depth_kind == "affine_disparity":
            assert seen.depth_reference is not None
            z = z.clamp_min(NEAREST_DEPTH)
            square = seen.depth_reference[:, None].square()
            slope, z = -square / z.square(), square / z
        residual = (z - state.depth[:, :1] * seen.depth - state.depth[:, 1:])[..., None]
        derivative = None
        if not isinstance(keypoints, Tensor):
            derivative = self._blank(residual)
            moved = slope[..., None] * keypoints.derivative[..., 2, :]
            derivative[:, :, 0, : moved.shape[-1]] = moved
            ones = torch.ones_like(seen.depth)
            derivative[:, :, 0, columns.depth] = -torch.stack([seen.depth, ones], dim=-1)
        weight = seen.depth_confidence / w.depth_sd
        found = Term("depth", residual, derivative, weight, w.rho_depth)
        return _sharpened(found, seen.depth_sharpness)

    def _scale_term(self, state: State, derive: bool) -> Term:
        """How many metres a unit of observed depth may be."""
        mean, sd = SCALES.get(self.evidence.depth_kind, AFFINE_SCALE)
        residual = (state.depth[:, :1] - mean)[..., None]
        derivative = None
        if derive:
            derivative = self._blank(residual)
            derivative[..., self.skeleton.columns.depth.start] = 1
        return Term("scale", residual, derivative, torch.full_like(residual[..., 0], 1 / sd))

    def _shift_term(self, state: State, mean: Tensor, derive: bool) -> Term:
        """Metres between where metric depth puts the person and where the fit does."""
        residual = (state.depth[:, 1] - mean)[:, None, None]
        derivative = None
        if derive:
            derivative = self._blank(residual)
            derivative[..., self.skeleton.columns.depth.stop - 1] = 1
        sd = (METRIC_SHIFT_SD**2 + (METRIC_SCALE_SD * mean).square()).sqrt()
        known = torch.where(mean > 0, 1 / sd, 0.0)
        return Term("shift", residual, derivative, known[:, None], SHIFT_RHO)

    def _dense_points(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Observed points in metres, their rays, and the rays' change with log focal."""
        seen = self.evidence
        assert seen.rays is not None and seen.ray_depth is not None
        rays, slope = seen.rays.clone(), torch.zeros_like(seen.rays)
        if seen.rays_follow_focal:
            rays[..., :2] = rays[..., :2] / state.log_focal.exp()[:, None, None]
            slope[..., :2] = -rays[..., :2]
        z = state.depth[:, :1] * seen.ray_depth + state.depth[:, 1:]
        return z[..., None] * rays, rays, z[..., None] * slope

    def _dense_term(
        self, state: State, chain: Chain, w: Weights, matches: Tensor, derive: bool
    ) -> Term:
        """Body surface against observed points: mostly along the normal, a little along it."""
        assert self.surface is not None
        seen, columns = self.evidence, self.skeleton.columns
        assert seen.ray_depth is not None and seen.ray_confidence is not None
        observed, rays, slope = self._dense_points(state)
        normal = _pick(self.surface.normals(chain), matches)
        weight = w.dense * seen.ray_confidence
        if not derive:
            vertex = _pick(points(self.surface.rig, chain, state.betas), matches)
            return Term("dense", _stretch(vertex - observed, normal), None, weight, w.rho_dense)
        jacobian = differentiate(self.surface.rig, self.skeleton, chain, state.betas)
        residual = _pick(jacobian.points, matches) - observed
        derivative = self._blank(residual)
        moved = _pick(jacobian.derivative.flatten(start_dim=2), matches).unflatten(-1, (3, -1))
        derivative[..., : moved.shape[-1]] = moved
        derivative[..., columns.depth.start] = -rays * seen.ray_depth[..., None]
        derivative[..., columns.depth.start + 1] = -rays
        derivative[..., columns.focal.start] = -slope
        along = (derivative * normal[..., None]).sum(dim=-2, keepdim=True)
        derivative = TANGENTIAL * derivative + (_NORMAL_GAIN * normal)[..., None] * along
        return Term("dense", _stretch(residual, normal), derivative, weight, w.rho_dense)

    def _prior_terms(self, state: State, chain: Chain, w: Weights, derive: bool) -> list[Term]:
        """Pose prior, joint limits, shape and focal length."""
        columns = self.skeleton.columns
        rotvec = rotmat_to_rotvec(state.rotmat[:, 1:])
        turned = None
        if derive:
            above = list(self.skeleton.parents[1:])
            turned = log_jacobian(rotvec, chain.world[:, above])
        found = [
            self._pose_term(rotvec, turned, columns, w),
            self._limit_term(rotvec, turned, columns, w),
        ]
        shape, focal = state.betas[:, None], state.log_focal[:, None, None]
        ones = torch.ones_like(focal[..., 0])
        shape_slope = focal_slope = None
        if derive:
            shape_slope, focal_slope = self._blank(shape), self._blank(focal)
            shape_slope[:, 0, :, columns.betas] = torch.eye(columns.num_betas).to(shape)
            focal_slope[..., columns.focal] = 1
        found.append(Term("shape", shape, shape_slope, w.shape * ones))
        sd = self.evidence.focal_sd[:, None]
        found.append(Term("focal", focal, focal_slope, torch.where(sd > 0, 1 / sd, 1e4)))
        return found

    def _pose_term(
        self, rotvec: Tensor, turned: Tensor | None, columns: Columns, w: Weights
    ) -> Term:
        residual, whitening, constant = self.prior.whiten(rotvec)
        derivative = None
        if turned is not None:
            derivative = self._blank(residual[:, None])
            blocks = whitening.unflatten(-1, (-1, 3)).transpose(1, 2) @ turned
            rows = blocks.transpose(1, 2).flatten(start_dim=2)
            derivative[:, 0, :, 3 : columns.turns.stop] = rows
        weight = torch.full_like(residual[:, :1], w.prior)
        return Term("prior", residual[:, None], derivative, weight, constant=w.prior**2 * constant)

    def _limit_term(
        self, rotvec: Tensor, turned: Tensor | None, columns: Columns, w: Weights
    ) -> Term:
        """Radians by which each rotation vector leaves its range."""
        beyond = self.prior.beyond_limits(rotvec)
        residual = beyond[:, None]
        derivative = None
        if turned is not None:
            derivative = self._blank(residual)
            active = (beyond != 0).unflatten(-1, (-1, 3))
            slots = derivative[:, 0, :, 3 : columns.turns.stop]
            slots = slots.unflatten(-1, (-1, 3)).unflatten(1, (-1, 3))
            index = torch.arange(rotvec.shape[1])
            slots[:, index, :, index] = (active[..., None] * turned).transpose(0, 1)
        weight = torch.full_like(residual[..., 0], w.limits / LIMIT_SD)
        return Term("limits", residual, derivative, weight)


_NORMAL_GAIN = math.sqrt(1 + TANGENTIAL**2) - TANGENTIAL


def _sharpened(term: Term, factor: Tensor | None) -> Term:
    """Residuals in units of their own standard deviation, so that the robust radius is too."""
    if factor is None:
        return term
    slope = term.derivative
    return term._replace(
        residual=factor[..., None] * term.residual,
        derivative=None if slope is None else factor[..., None, None] * slope,
    )


def _stretch(vector: Tensor, normal: Tensor) -> Tensor:
    """The vector weighed fully along the normal and little across, a symmetric square root."""
    along = (vector * normal).sum(dim=-1, keepdim=True)
    return TANGENTIAL * vector + _NORMAL_GAIN * along * normal


def _pick(values: Float[Tensor, "batch points width"], rows: Tensor) -> Tensor:
    """Rows (B, n) of values (B, P, w)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))
