"""What is known of people and cameras before anything is seen: pose, limits, shape, focal."""

import torch
from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights

LIMIT_SD = 0.1  # radians beyond a joint limit
HELD = 1e4  # weight of a focal length that is known


def prior_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """The pose in whitened coordinates of the likeliest component."""
    residual, whitening, constant = frame.prior.whiten(frame.rotvec)
    turns = frame.skeleton.columns.turns

    def derive() -> Tensor:
        slope = frame.blank(residual[:, None])
        blocks = whitening.unflatten(-1, (-1, 3)).transpose(1, 2) @ frame.rotvec_slope
        slope[:, 0, :, 3 : turns.stop] = blocks.transpose(1, 2).flatten(start_dim=2)
        return slope

    weight = torch.full_like(residual[:, :1], weights.prior)
    constant = weights.prior**2 * constant
    return Term("prior", residual[:, None], derive, weight, constant=constant)


def limit_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Radians by which each rotation vector leaves its range."""
    beyond = frame.prior.beyond_limits(frame.rotvec)
    residual = beyond[:, None]

    def derive() -> Tensor:
        slope = frame.blank(residual)
        active = (beyond != 0).unflatten(-1, (-1, 3))
        slots = slope[:, 0, :, 3 : frame.skeleton.columns.turns.stop]
        slots = slots.unflatten(-1, (-1, 3)).unflatten(1, (-1, 3))
        joint = torch.arange(frame.rotvec.shape[1])
        slots[:, joint, :, joint] = (active[..., None] * frame.rotvec_slope).transpose(0, 1)
        return slope

    weight = torch.full_like(residual[..., 0], weights.limits / LIMIT_SD)
    return Term("limits", residual, derive, weight)


def shape_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Betas, whose standard deviation is 1."""
    residual = frame.state.betas[:, None]
    weight = torch.full_like(residual[..., 0], weights.shape)
    return Term("shape", residual, lambda: by_betas(frame, residual), weight)


def by_betas(frame: Frame, residual: Tensor) -> Tensor:
    """The derivative of betas, less a constant."""
    slope, columns = frame.blank(residual), frame.skeleton.columns
    slope[:, 0, :, columns.betas] = torch.eye(columns.num_betas).to(residual)
    return slope


def focal_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """The logarithm of the focal length over what was given or guessed."""
    residual = frame.state.log_focal[:, None, None]
    sd = seen.focal_sd[:, None]
    weight = torch.where(sd > 0, 1 / sd, HELD)
    column = frame.skeleton.columns.focal.start
    return Term("focal", residual, lambda: frame.unit(residual, column), weight)
