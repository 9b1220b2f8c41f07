"""A video of one person: one shape and one focal length, smooth motion, feet that do not slide.

Two passes: every frame on its own, then all frames again, pulled towards the clip's shape and focal
length and towards a smoothed path of their own joints. What was hardly seen hardly counts in the
path, and a frame without a person not at all: its neighbors tell where its joints are wanted. While
a foot stands (it hardly moves, as the camera sees it), the path holds it still; that takes a camera
that stands still too. Frames need not come at one rate: their times count, and where a clip pauses,
nothing is joined across.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator, Fit, Start, run_stages
from pchmr.annotate.keypoints import LABEL_POINTS
from pchmr.annotate.kinematics import State, points, pose
from pchmr.annotate.modes import FITTERS
from pchmr.annotate.observed import LEAST_SEEN, Observations
from pchmr.annotate.paths import LEAST_TRUST, Pull, smooth_path
from pchmr.annotate.residuals import Evidence, Frame, Term, TermFunction, Weights
from pchmr.annotate.residuals.person import by_betas
from pchmr.annotate.rig import Rig
from pchmr.config import SettingError

BAD_FIT = 4.0  # median energies a keypoint from which a frame counts half
SHAPE_SD = 1e-3  # holds the shape; what is left of a difference is dropped at the end
ITERATIONS = 12


@dataclass(frozen=True, kw_only=True)
class WantedPath:
    """A path of joints and a shape that frames are pulled to.

    Attributes:
        rig: The joints.
        points: Where they are wanted, metres.
        weight: How hard, 1 / metres.
        betas: Shape of the whole clip.
    """

    rig: Rig
    points: Float[Tensor, "frames points 3"]
    weight: Float[Tensor, "frames points"]
    betas: Float[Tensor, "1 betas"]

    def terms(self, rows: Tensor) -> tuple[TermFunction, ...]:
        """The terms of some frames."""
        wanted, weight = self.points[rows], self.weight[rows]

        def path_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
            """Joints away from their path."""
            jacobian = frame.jacobian_of(self.rig) if frame.is_linear else None
            xyz = frame.points_of(self.rig) if jacobian is None else jacobian.points

            def derive() -> Tensor:
                slope = frame.blank(xyz)
                by_point = (jacobian or frame.jacobian_of(self.rig)).derivative
                slope[..., : by_point.shape[-1]] = by_point
                return slope

            return Term("path", xyz - wanted, derive, weight)

        def clip_shape_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
            """Betas away from the clip's."""
            residual = (frame.state.betas - self.betas)[:, None]
            hard = torch.full_like(residual[..., 0], 1 / SHAPE_SD)
            return Term("clip_shape", residual, lambda: by_betas(frame, residual), hard)

        return path_term, clip_shape_term


def fit_clip(
    annotator: Annotator,
    observations: Observations,
    mode: str,
    starts: Sequence[Start] = (),
    *,
    batch_size: int = 32,
) -> Fit:
    """Fits consecutive frames of one person together.

    Args:
        annotator: Body and prior.
        observations: Of all frames.
        mode: One of `MODES`.
        starts: Further starts of all frames.
        batch_size: Frames solved at once; what joins them needs no more memory.

    Raises:
        SettingError: The mode is a SMPLify-X baseline, which knows single frames only.
    """
    if mode not in MODES:
        raise SettingError(f"--consecutive needs one of {', '.join(MODES)}, not {mode}")
    first = _singly(annotator, observations, mode, starts, batch_size)
    return join_frames(annotator, observations, mode, first, batch_size=batch_size)


def join_frames(
    annotator: Annotator,
    observations: Observations,
    mode: str,
    first: Fit,
    *,
    batch_size: int = 32,
    pull: Pull | None = None,
) -> Fit:
    """Fits frames of one person together that were fitted on their own; see `fit_clip`.

    Args:
        annotator: Body and prior.
        observations: Of all frames.
        mode: One of `MODES`; its last stage is run.
        first: Of every frame on its own.
        batch_size: Frames solved at once.
        pull: How hard frames are joined.
    """
    trust = first.objective.evidence.confidence.sum(dim=-1)
    betas = _trusted_mean(first.state.betas, trust)
    focal = _trusted_mean(first.state.log_focal[:, None], trust)[:, 0]
    state = first.state._replace(
        betas=betas.expand_as(first.state.betas), log_focal=focal.expand_as(first.state.log_focal)
    )
    rig = annotator.points.rig.take(annotator.points.indices(LABEL_POINTS))
    path = points(rig, pose(annotator.skeleton, first.state), first.state.betas)
    sure = path_trust(annotator, observations, first)
    wanted, weight = smooth_path(path, sure, observations.times, pull)
    base = replace(first.objective, evidence=_with_focal(first.objective.evidence, focal))
    state = state._replace(log_focal=torch.zeros_like(state.log_focal))
    goal = WantedPath(rig=rig, points=wanted, weight=weight, betas=betas)
    stages = [replace(MODES[mode].refine[-1], iterations=ITERATIONS)]
    parts = []
    for rows in torch.arange(len(observations)).split(batch_size):
        objective = replace(base.take(rows), terms=base.terms + goal.terms(rows))
        parts.append(run_stages(objective, stages, state.take(rows)))
    done = State(*(torch.cat(values) for values in zip(*(p.state for p in parts), strict=True)))
    done = done._replace(betas=state.betas, log_focal=state.log_focal)
    return replace(
        first, state=done, energy=torch.cat([part.energy for part in parts]), objective=base
    )


def _with_focal(evidence: Evidence, log_focal: Tensor) -> Evidence:
    """What is seen, by a camera whose focal length is settled."""
    scale = torch.exp(log_focal).expand_as(evidence.focal)
    rays = evidence.rays
    if rays is not None and evidence.rays_follow_focal:
        rays = torch.cat([rays[..., :2] / scale[:, None, None], rays[..., 2:]], dim=-1)
    return replace(evidence, focal_sd=0 * scale, focal=evidence.focal * scale, rays=rays)


def part_of(fit: Fit, rows: Tensor) -> Fit:
    """Some frames of a fit."""
    return replace(
        fit,
        state=fit.state.take(rows),
        energy=fit.energy[rows],
        margin=fit.margin[rows],
        ambiguity=fit.ambiguity[rows],
        objective=fit.objective.take(rows),
    )


def _singly(
    annotator: Annotator,
    observations: Observations,
    mode: str,
    starts: Sequence[Start],
    batch_size: int,
) -> Fit:
    """Every frame on its own, batch by batch, as one fit."""
    parts = []
    for at in range(0, len(observations), batch_size):
        rows = slice(at, at + batch_size)
        more = [start.take(rows) for start in starts]
        parts.append(FITTERS[mode](annotator, observations.take(rows), more))
    states = zip(*(part.state for part in parts), strict=True)
    uses = MODES[mode]
    return replace(
        parts[0],
        state=State(*(torch.cat(values) for values in states)),
        energy=torch.cat([part.energy for part in parts]),
        margin=torch.cat([part.margin for part in parts]),
        ambiguity=torch.cat([part.ambiguity for part in parts]),
        objective=annotator.objective(observations, depth=uses.uses_depth, dense=uses.uses_dense),
    )


def _trusted_mean(values: Float[Tensor, "frames width"], trust: Tensor) -> Tensor:
    """Mean over frames, weighed by how much was seen, without the farthest quarter."""
    distance = (values - values.median(dim=0).values).norm(dim=-1)
    near = distance <= distance.quantile(0.75)
    weight = (trust * near).clamp_min(1e-6)
    return (weight[:, None] * values).sum(dim=0, keepdim=True) / weight.sum()


def path_trust(
    annotator: Annotator, observations: Observations, fit: Fit
) -> Float[np.ndarray, "frames points"]:
    """How much each labeled point of each frame counts in the smoothed path.

    The confidence of the keypoint of that name, the frame's mean for points that are none; less
    for a frame that is fitted worse than most, nothing for one that shows no person.
    """
    confidence = fit.objective.evidence.confidence
    mean = confidence.mean(dim=1)
    trust = mean[:, None].repeat(1, len(LABEL_POINTS))
    for column, point in enumerate(LABEL_POINTS):
        rows = observations.reading.rows((point.split(":")[1],))
        if rows:
            trust[:, column] = confidence[:, rows[0]]
    seen = torch.from_numpy(observations.num_seen >= LEAST_SEEN).to(mean.device)
    cost = fit.energy / confidence.sum(dim=1).clamp_min(1.0)
    usual = cost[seen].median() if seen.any() else cost.median()
    good = 1 / (1 + (cost / (BAD_FIT * usual).clamp_min(LEAST_TRUST)).square())
    return (trust * (good * seen)[:, None]).double().cpu().numpy()
