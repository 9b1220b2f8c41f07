"""What a fit tells about itself: signals, residuals, posterior uncertainty; no judgment."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator, Fit
from pchmr.annotate.keypoints import LABEL_POINTS
from pchmr.annotate.kinematics import differentiate, points, pose
from pchmr.annotate.residuals import Term
from pchmr.annotate.solver import normal_equations
from pchmr.body.joints import COCO_17

LEAST_WEIGHT = 1e-3  # of all keypoints together
SPARE = ("limits", "scale", "bones", "tilt", "told")
"""Residuals that are signals where they are there."""


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
    frame = objective.frame(fit.state, matches=matches, linear=True)
    terms = {term.name: term for term in objective.terms_at(frame, weights)}
    std = _joint_std(annotator, fit, list(terms.values()))
    residuals = {name: _mean_residual(term) for name, term in terms.items()}
    keypoints = terms["keypoints"]
    signals = {
        "spread": std.mean(dim=-1),
        "keypoints": residuals["keypoints"],
        "worst_keypoint": _worst(keypoints),
        "pull": keypoints.energy() / keypoints.weight.square().sum(dim=-1).clamp_min(LEAST_WEIGHT),
        "evidence": objective.evidence.confidence.sum(dim=-1),
        "prior": residuals["prior"],
        "shape": fit.state.betas.norm(dim=-1),
        "margin": fit.margin.clamp_min(0),
        "ambiguity": fit.ambiguity,
        "relief": _relief(annotator, fit),
    }
    evidence = objective.evidence
    signals |= {name: residuals[name] for name in SPARE if name in residuals}
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
