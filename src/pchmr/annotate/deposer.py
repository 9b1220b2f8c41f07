"""Fits the body to observations of single frames: modes, stages, starts.

`deposer-dense` and `deposer-keypoint` are DePoser as this package builds it (its paper leaves loss,
stages and solver open); `strong-2d` is the same without depth; `smplifyx` is in `smplify.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.evidence import gather_evidence, keypoint_spread
from pchmr.annotate.keypoints import LABEL_POINTS, BodyPoints
from pchmr.annotate.kinematics import Skeleton, State, points, pose
from pchmr.annotate.observed import Observations
from pchmr.annotate.prior import PosePrior, load_prior
from pchmr.annotate.residuals import TERMS, Evidence, Objective, Weights
from pchmr.annotate.residuals.depth import scale_prior
from pchmr.annotate.solver import Solution, minimize
from pchmr.annotate.solver import energy as robust_energy
from pchmr.annotate.spatial import joints_in_space, pose_in_space, told_bones
from pchmr.annotate.surface import Surface
from pchmr.body import BodyModel
from pchmr.geometry import rotvec_to_rotmat

YAWS = (0.0, math.pi / 2, math.pi, -math.pi / 2)
START_SHARE = 0.7  # of the prior's mean pose that a start takes
NEAREST_START = 0.5  # metres
EVEN_ENERGY = 5.0  # by which a start may cost more and still be likely
NEAR_STARTS = 2  # that go on where joints in space were seen: those of the least cost as they begin
NEAR_SCOUT, NEAR_REFINE = 2, (1, 5)  # iterations from there
SETTLED = 1e-2  # of the energy: who saves less in a step, from there, is done


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some iterations under one set of weights.

    Attributes:
        iterations: At most.
        weights: Of its terms.
        settled: Share of its energy that every frame must save in a step for the stage to go on.
    """

    iterations: int
    weights: Weights
    settled: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What a fit uses.

    Attributes:
        scout: Stages that every start runs; the cheapest start goes on.
        refine: Stages of the chosen start.
        uses_depth: Keypoint depth, and joints in space.
        uses_dense: Dense points, where depth is metric.
    """

    scout: tuple[Stage, ...]
    refine: tuple[Stage, ...]
    uses_depth: bool = False
    uses_dense: bool = False

    @property
    def near(self) -> "Mode":
        """The same with fewer iterations, for starts that joints in space put near the truth."""
        pairs = zip(self.refine, NEAR_REFINE, strict=True)
        return replace(
            self,
            scout=(replace(self.scout[-1], iterations=NEAR_SCOUT),),
            refine=tuple(replace(s, iterations=n, settled=SETTLED) for s, n in pairs),
        )


def _mode(depth: bool, dense: bool) -> Mode:
    sd = 0.05 * depth
    first = Weights(prior=4.0, shape=5.0, rho_px=200.0, depth_sd=sd, rho_depth=0.5)
    second = Weights(
        prior=2.0,
        shape=2.0,
        rho_px=100.0,
        depth_sd=sd,
        rho_depth=0.25,
        dense=6.25 * dense,
        rho_dense=0.3,
    )
    third = Weights(
        prior=1.0,
        shape=1.0,
        rho_px=40.0,
        depth_sd=0.1 if dense else sd,
        rho_depth=0.12,
        dense=17.5 * dense,
        rho_dense=0.12,
    )
    scout = (
        Stage(iterations=5, weights=replace(first, free="root")),
        Stage(iterations=6, weights=first),
    )
    refine = (Stage(iterations=5, weights=second), Stage(iterations=8, weights=third))
    return Mode(scout=scout, refine=refine, uses_depth=depth, uses_dense=dense)


MODES: dict[str, Mode] = {
    "strong-2d": _mode(depth=False, dense=False),
    "deposer-keypoint": _mode(depth=True, dense=False),
    "deposer-dense": _mode(depth=True, dense=True),
}


@dataclass(frozen=True)
class Start:
    """Where a fit begins: local rotations (B, 24, 3, 3), root in the camera frame, and betas."""

    rotmat: Float[Tensor, "batch joints 3 3"]
    betas: Float[Tensor, "batch betas"]

    def take(self, rows: slice) -> "Start":
        """Some frames."""
        return Start(self.rotmat[rows], self.betas[rows])


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fitted frames.

    Attributes:
        state: Unknowns.
        energy: Robust energy of the last stage.
        margin: Energy of the second best start over that of the best, per observed keypoint.
        ambiguity: Metres between the best start's joints and those of starts that cost hardly more.
        objective: What was minimized.
        weights: Of the last stage.
    """

    state: State
    energy: Float[Tensor, " batch"]
    margin: Float[Tensor, " batch"]
    ambiguity: Float[Tensor, " batch"]
    objective: Objective
    weights: Weights


class Annotator:
    """A body, a prior and what the solver needs of them, computed once."""

    def __init__(self, body: BodyModel, prior: PosePrior | None = None) -> None:
        self.body = body
        self.points = BodyPoints.of(body)
        self.skeleton = Skeleton.of(body)
        self.surface = Surface.of(body)
        self.prior = (prior or load_prior()).to(body.v_template)

    def objective(self, observations: Observations, *, depth: bool, dense: bool) -> Objective:
        """The terms that observations give, with keypoint depth and dense points or without."""
        rows = self.points.indices(observations.reading.points)
        evidence = gather_evidence(
            observations,
            self.points.surface_offset[rows],
            like=self.body.v_template,
            use_depth=depth,
            use_dense=dense,
        )
        return Objective(
            skeleton=self.skeleton,
            rig=self.points.rig.take(rows),
            prior=self.prior,
            surface=self.surface if evidence.rays is not None else None,
            evidence=evidence,
            terms=TERMS,
        )

    def fit(self, observations: Observations, mode: Mode, starts: Sequence[Start] = ()) -> Fit:
        """Fits every frame on its own.

        Args:
            observations: Of any number of frames; they are solved as one batch.
            mode: One of `MODES`.
            starts: Predictions of a network, tried beside the yaws and the joints in space.
        """
        objective = self.objective(observations, depth=mode.uses_depth, dense=mode.uses_dense)
        own = self.space_starts(observations) if mode.uses_depth else []
        begun = [*own, *self.yaw_starts(len(observations)), *starts]
        if own:
            objective = self.told(objective, starts)
            return fit_objective(objective, mode.near, begun, NEAR_STARTS)
        return fit_objective(objective, mode, begun)

    def told(self, objective: Objective, starts: Sequence[Start]) -> Objective:
        """The same with the bones of the first network's mesh beside those of joints in space."""
        seen = objective.evidence
        if not starts or seen.bone_ends is None:
            return objective
        start = starts[0]
        bones = told_bones(self.skeleton, objective.rig, seen.bone_ends, start.rotmat, start.betas)
        return replace(objective, evidence=replace(seen, told_bones=bones))

    def space_starts(self, observations: Observations) -> list[Start]:
        """The pose of joints in space; empty where none were seen."""
        xyz = joints_in_space(observations)
        if xyz is None:
            return []
        reading = observations.reading
        rig = self.points.rig.take(self.points.indices(reading.points))
        seen = torch.from_numpy(xyz).to(self.body.v_template)
        rotmat = pose_in_space(self.skeleton, rig, reading.names, seen)
        return [Start(rotmat, rotmat.new_zeros(len(rotmat), self.skeleton.joint_dirs.shape[-1]))]

    def yaw_starts(self, count: int) -> list[Start]:
        """A bent mean pose, seen from four sides."""
        return yaw_starts(self.skeleton, self.prior, count)

    def start(self, count: int, yaw: float, share: float) -> Start:
        """A share of the prior's mean pose, upright, turned by `yaw` radians from the camera."""
        return upright(self.skeleton, self.prior, count, yaw, share)

    def label_joints(self, fit: Fit) -> Float[Tensor, "batch joints 3"]:
        """Labeled joints in the camera frame, metres, in the order of `LABEL_JOINTS`."""
        rig = self.points.rig.take(self.points.indices(LABEL_POINTS))
        return points(rig, pose(self.skeleton, fit.state), fit.state.betas)

    def vertices(self, fit: Fit) -> Float[Tensor, "batch vertices 3"]:
        """Fitted meshes in the camera frame, metres."""
        rotmat, betas = fit.state.rotmat, fit.state.betas
        return self.body(rotmat[:, 0], rotmat[:, 1:], betas, fit.state.transl).vertices


def upright(skeleton: Skeleton, prior: PosePrior, count: int, yaw: float, share: float) -> Start:
    """A share of the prior's mean pose, upright, turned by `yaw` radians from the camera."""
    local = rotvec_to_rotmat(share * prior.center)
    turn = rotvec_to_rotmat(torch.tensor([0.0, yaw, 0.0]))
    root = (torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turn).to(local)
    rotmat = torch.cat([root[None], local]).expand(count, -1, -1, -1)
    return Start(rotmat, local.new_zeros(count, skeleton.joint_dirs.shape[-1]))


def yaw_starts(skeleton: Skeleton, prior: PosePrior, count: int) -> list[Start]:
    """A bent mean pose, seen from four sides."""
    return [upright(skeleton, prior, count, yaw, START_SHARE) for yaw in YAWS]


@torch.no_grad()
def fit_objective(
    objective: Objective, mode: Mode, starts: Sequence[Start], kept: int | None = None
) -> Fit:
    """Runs the scout stages from every start, then the refining stages from the cheapest.

    Args:
        objective: What is minimized.
        mode: Its stages.
        starts: Of all frames.
        kept: How many starts of each frame go on, those that cost least as they begin; all of them
            without it.
    """
    count, many = len(objective.evidence), min(kept or len(starts), len(starts))
    begun = [place(objective, start) for start in starts]
    together = State(*(torch.cat(parts) for parts in zip(*begun, strict=True)))
    rows = torch.arange(count, device=together.log_focal.device)
    if many < len(starts):
        all_rows = objective.take(rows.repeat(len(starts)))
        first = robust_energy(all_rows.terms_at(all_rows.frame(together), mode.scout[0].weights))
        best = first.unflatten(0, (len(starts), count)).topk(many, dim=0, largest=False).indices
        together = together.take((best * count + rows).flatten())
    scouted = run_stages(objective.take(rows.repeat(many)), mode.scout, together)
    energy = scouted.energy.unflatten(0, (many, count))
    order = energy.sort(dim=0)
    chosen = order.indices[0] * count + rows
    second = order.values[min(1, many - 1)]
    trust = objective.evidence.confidence.sum(dim=-1).clamp_min(1.0)
    done = run_stages(objective, mode.refine, scouted.state.take(chosen), scouted.damping[chosen])
    return Fit(
        state=done.state,
        energy=done.energy,
        margin=(second - order.values[0]) / trust,
        ambiguity=_ambiguity(objective, scouted.state, energy),
        objective=objective,
        weights=mode.refine[-1].weights,
    )


def _ambiguity(
    objective: Objective, state: State, energy: Float[Tensor, "starts batch"]
) -> Float[Tensor, " batch"]:
    """Distance of the starts' joints from the best's, weighed by how little more they cost."""
    joints = pose(objective.skeleton, state).joints
    joints = (joints - joints.mean(dim=1, keepdim=True)).unflatten(0, energy.shape)
    best = energy.amin(dim=0)
    chosen = energy.argmin(dim=0)
    frame = torch.arange(energy.shape[1], device=energy.device)
    distance = (joints - joints[chosen, frame]).norm(dim=-1).mean(dim=-1)
    weight = torch.exp(-(energy - best) / (0.1 * best + EVEN_ENERGY))
    return (weight * distance).sum(dim=0) / weight.sum(dim=0)


@torch.no_grad()
def refine(annotator: Annotator, observations: Observations, mode: Mode, state: State) -> Fit:
    """Goes on from a fit at hand, say after a keypoint was dragged: no starts, no scout."""
    objective = annotator.objective(observations, depth=mode.uses_depth, dense=mode.uses_dense)
    done = run_stages(objective, mode.refine, state)
    zero = torch.zeros_like(done.energy)
    return Fit(
        state=done.state,
        energy=done.energy,
        margin=zero,
        ambiguity=zero,
        objective=objective,
        weights=mode.refine[-1].weights,
    )


def run_stages(
    objective: Objective, stages: Sequence[Stage], state: State, damping: Tensor | None = None
) -> Solution:
    """Stages in order; damping goes on from one to the next."""
    done = Solution(state, torch.full_like(state.log_focal, torch.inf), state.log_focal)
    for stage in stages:
        done = minimize(
            objective, done.state, stage.weights, stage.iterations, damping, settled=stage.settled
        )
        damping = done.damping
    return done


def place(objective: Objective, start: Start) -> State:
    """Puts a start before the camera: distance from the keypoints' spread, depth from that."""
    seen, betas = objective.evidence, start.betas
    zero = betas.new_zeros(len(betas))
    level = betas.new_zeros(len(betas), 2)
    state = State(start.rotmat, betas, betas.new_zeros(len(betas), 3), level, zero, level)
    xyz = points(objective.rig, pose(objective.skeleton, state), betas)
    middle, spread = keypoint_spread(xyz[..., :2], seen.confidence)
    center, extent = keypoint_spread(seen.keypoints, seen.confidence)
    z = (seen.focal * spread / extent.clamp_min(1.0)).clamp_min(NEAREST_START)
    xy = (center - seen.center) * (z / seen.focal)[:, None] - middle
    scale = torch.full_like(z, scale_prior(seen)[0])
    depth = torch.stack([scale, _first_shift(seen, z)], dim=-1)
    return State(start.rotmat, betas, torch.cat([xy, z[:, None]], dim=-1), depth, zero, level)


def _first_shift(seen: Evidence, z: Tensor) -> Tensor:
    if seen.depth_kind == "affine_disparity" and seen.depth_reference is not None:
        return seen.depth_reference.square() / z
    if seen.depth_mean is not None:
        return torch.where(seen.depth_mean > 0, seen.depth_mean, z)
    return z
