"""A batch of frames at one state: what terms ask of the posed body, each computed once if asked."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pchmr.annotate.kinematics import (
    Chain,
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


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Frames at a state.

    Attributes:
        skeleton: Of the body.
        rig: Keypoints, in the order of the evidence.
        prior: Of local rotations, and joint limits.
        surface: Vertices that meet dense depth; None leaves that term out.
        state: Unknowns.
        matches: Vertex of the surface that each dense point meets, or None.
        is_linear: Whether derivatives will be asked for, so that points come with them.
    """

    skeleton: Skeleton
    rig: Rig
    prior: PosePrior
    surface: Surface | None
    state: State
    matches: Tensor | None = None
    is_linear: bool = False

    @cached_property
    def chain(self) -> Chain:
        """The posed skeleton."""
        return pose(self.skeleton, self.state)

    def points_of(self, rig: Rig) -> Tensor:
        """Points (B, K, 3) of a rig in the camera frame, metres."""
        return points(rig, self.chain, self.state.betas)

    def jacobian_of(self, rig: Rig) -> PointJacobian:
        """Points of a rig and their derivative by turns, betas and translation."""
        return differentiate(rig, self.skeleton, self.chain, self.state.betas)

    @cached_property
    def keypoint_jacobian(self) -> PointJacobian:
        """Of the keypoints."""
        return self.jacobian_of(self.rig)

    @cached_property
    def keypoints(self) -> Tensor:
        """Keypoints (B, K, 3) in the camera frame, metres."""
        return self.keypoint_jacobian.points if self.is_linear else self.points_of(self.rig)

    @cached_property
    def rotvec(self) -> Tensor:
        """Local rotation vectors (B, 23, 3) below the root."""
        return rotmat_to_rotvec(self.state.rotmat[:, 1:])

    @cached_property
    def rotvec_slope(self) -> Tensor:
        """Their derivative (B, 23, 3, 3) by the turns of their own joints."""
        return log_jacobian(self.rotvec, self.chain.world[:, list(self.skeleton.parents[1:])])

    def blank(self, residual: Tensor) -> Tensor:
        """A derivative of zeros for a residual: one more dimension, of all unknowns."""
        return torch.zeros(*residual.shape, len(self.skeleton.columns)).to(residual)

    def unit(self, residual: Tensor, column: int) -> Tensor:
        """The derivative of a residual that is an unknown itself, less a constant."""
        slope = self.blank(residual)
        slope[..., column] = 1
        return slope
