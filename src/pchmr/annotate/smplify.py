"""SMPLify-X as a baseline: its published objective, stages, camera and frozen translation.

Reimplemented from the description in Pavlakos et al. (CVPR 2019) and the facts known of its
settings. What differs: our licence-free prior stands for the VPoser latent, hands, face and
self-penetration are left out with the body parts they need, and the solver is the batched one of
this package instead of one L-BFGS run a picture.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator, Fit, Start
from pchmr.annotate.evidence import keypoint_spread
from pchmr.annotate.kinematics import State, points, pose
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Evidence, Frame, Objective, Term, TermFunction, Weights
from pchmr.annotate.residuals.keypoints import keypoint_term
from pchmr.annotate.residuals.person import prior_term, shape_term
from pchmr.annotate.solver import Solution, minimize
from pchmr.body.joints import SMPL_24

FOCAL = 5000.0
RHO_PX = 100.0
DATA_HEIGHT = 1000.0
BENDING = 3.17
STAGES = ((404.0, 100.0), (404.0, 50.0), (57.4, 10.0), (4.78, 5.0), (4.78, 5.0))
"""Weights of pose and shape in each stage."""
STAGE_STEPS, CAMERA_STEPS = 30, 40
DEPTH_WEIGHT = 100.0
NARROW_SHOULDERS_PX = 25.0
TORSO = ("right_hip", "left_hip", "right_shoulder", "left_shoulder")
TORSO_EDGES = (("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"))
BENT = {
    ("left_elbow", 1): 1.0,
    ("right_elbow", 1): -1.0,
    ("left_knee", 0): -1.0,
    ("right_knee", 0): -1.0,
}
"""Rotation vector entries that bend one way only: exp(sign * entry) is small when bent."""


def coordinate_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Each pixel coordinate on its own, in pixels of the picture, weighed as published."""
    term, unit = keypoint_term(frame, seen, weights), seen.pixel_unit[:, None]
    residual = term.residual.flatten(start_dim=1) * unit

    def derive() -> Tensor:
        return (term.derive().flatten(1, 2) * unit[..., None])[:, :, None]

    weight = seen.confidence.repeat_interleave(2, dim=1)
    return Term("keypoints", residual[..., None], derive, weight, RHO_PX)


def bending_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Elbows and knees must not bend backwards; the weight is not squared, as published."""
    joints = [SMPL_24.index(name) - 1 for name, _ in BENT]
    axes = [axis for _, axis in BENT]
    sign = torch.tensor(list(BENT.values())).to(frame.rotvec)
    residual = (sign * frame.rotvec[:, joints, axes]).exp()[:, None]

    def derive() -> Tensor:
        slope = frame.blank(residual)
        change = (sign * residual[:, 0])[..., None] * frame.rotvec_slope[:, joints, axes]
        for row, joint in enumerate(joints):
            at = 3 * (joint + 1)
            slope[:, 0, row, at : at + 3] = change[:, row]
        return slope

    weight = torch.full_like(residual[..., 0], math.sqrt(BENDING * weights.prior))
    return Term("bending", residual, derive, weight)


def torso_term(torso: tuple[int, ...], frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """The four torso keypoints at their rows: only these count while the camera is found."""
    pixels = coordinate_term(frame, seen, weights)
    rows = [2 * row + axis for row in torso for axis in (0, 1)]
    assert rows
    weight = (pixels.weight[:, rows] > 0).to(pixels.weight)
    return Term("torso", pixels.residual[:, rows], lambda: pixels.derive()[:, rows], weight)


def near_term(depth: Tensor, frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Metres (B,) from where the camera step starts, and is held softly."""
    residual = (frame.state.transl[:, 2] - depth)[:, None, None]
    column = frame.skeleton.columns.transl.stop - 1
    weight = torch.full_like(residual[..., 0], DEPTH_WEIGHT)
    return Term("near", residual, lambda: frame.unit(residual, column), weight)


BODY_TERMS: tuple[TermFunction, ...] = (coordinate_term, prior_term, shape_term, bending_term)
"""SMPLify-X's terms; `weights.prior` and `weights.shape` are its stage weights."""


def camera_terms(torso: tuple[int, ...], depth: Tensor) -> tuple[TermFunction, ...]:
    """The terms while only root and translation are free, of frames placed at a depth (B,)."""
    return partial(torso_term, torso), partial(near_term, depth)


def fit_smplify(
    annotator: Annotator,
    observations: Observations,
    starts: Sequence[Start] = (),
    *,
    given_focal: bool = False,
) -> Fit:
    """Fits every frame as SMPLify-X does.

    Args:
        annotator: Body and prior.
        observations: Only keypoints, and the camera with `given_focal`, are used.
        starts: Not used; the published method starts from the mean pose alone.
        given_focal: Take the observed intrinsics instead of 5000 pixels and the picture's middle.
    """
    size = torch.from_numpy(observations.image_size).to(annotator.body.v_template)
    observations = replace(observations, keypoint_sigma=None)
    if not given_focal or observations.intrinsics is None:
        observations = replace(observations, intrinsics=_default_cameras(observations))
    base = annotator.objective(replace(observations, focal_sd=0.0), depth=False, dense=False)
    torso = observations.reading.rows(TORSO)
    state, first = _place(annotator, observations, base)
    scale = (DATA_HEIGHT / size[:, 1])[:, None]
    evidence = replace(base.evidence, confidence=base.evidence.confidence * scale)
    objective = replace(base, evidence=evidence, terms=BODY_TERMS)
    placing = replace(objective, terms=camera_terms(torso, first))
    camera = minimize(placing, state, Weights(free="camera"), CAMERA_STEPS)
    best = _run(objective, camera.state)
    side = _narrow(annotator, observations, evidence)
    if side.any():
        rows = side.nonzero()[:, 0]
        turned = _run(objective.take(rows), _turned(camera.state.take(rows)))
        better = turned.energy < best.energy[rows]
        merged = [value.clone() for value in best.state]
        for value, other in zip(merged, turned.state, strict=True):
            value[rows[better]] = other[better]
        energy = best.energy.clone()
        energy[rows[better]] = turned.energy[better]
        best = Solution(State(*merged), energy, best.damping)
    return Fit(
        state=best.state,
        energy=best.energy,
        margin=torch.zeros_like(best.energy),
        ambiguity=torch.zeros_like(best.energy),
        objective=base,
        weights=Weights(),
    )


def _default_cameras(observations: Observations) -> Float[np.ndarray, "frames 3 3"]:
    cameras = np.zeros((len(observations), 3, 3))
    cameras[:, [0, 1], [0, 1]] = FOCAL
    cameras[:, :2, 2] = observations.image_size / 2
    cameras[:, 2, 2] = 1
    return cameras


def _place(
    annotator: Annotator, observations: Observations, objective: Objective
) -> tuple[State, Tensor]:
    """Mean pose at the mean torso edge of the body over that of the picture; x = y = 0.

    Where no edge has both its ends in the picture, the spread of what is seen takes its place.
    """
    seen = objective.evidence
    start = annotator.start(len(seen), 0.0, 1.0)
    zero = start.betas.new_zeros(len(seen))
    still = start.betas.new_zeros(len(seen), 3)
    state = State(start.rotmat, start.betas, still, still[:, :2], zero, still[:, :2])
    xyz = points(objective.rig, pose(objective.skeleton, state), state.betas)
    body, extent = (
        keypoint_spread(at, seen.confidence)[1] for at in (xyz[..., :2], seen.keypoints)
    )
    body_edge, seen_edge, known = [], [], []
    for edge in TORSO_EDGES:
        rows = observations.reading.rows(edge)
        if len(rows) == 2:
            body_edge.append((xyz[:, rows[0]] - xyz[:, rows[1]]).norm(dim=-1))
            seen_edge.append((seen.keypoints[:, rows[0]] - seen.keypoints[:, rows[1]]).norm(dim=-1))
            known.append((seen.confidence[:, rows] > 0).all(dim=-1))
    if known:
        share = torch.stack(known).to(body)
        share = share / share.sum(dim=0).clamp_min(1)
        any_edge = share.sum(dim=0) > 0
        body = torch.where(any_edge, (share * torch.stack(body_edge)).sum(dim=0), body)
        extent = torch.where(any_edge, (share * torch.stack(seen_edge)).sum(dim=0), extent)
    depth = seen.focal * body / extent.clamp_min(1.0)
    transl = torch.zeros_like(state.transl)
    transl[:, 2] = depth
    return state._replace(transl=transl), depth


def _run(objective: Objective, state: State) -> Solution:
    done = Solution(state, torch.zeros_like(state.log_focal), state.log_focal)
    for prior, shape in STAGES:
        weights = Weights(prior=prior, shape=shape, free="pose")
        done = minimize(objective, done.state, weights, STAGE_STEPS)
    return done


def _narrow(annotator: Annotator, observations: Observations, evidence: Evidence) -> Tensor:
    """Whether the shoulders lie so close together that the person may face either way."""
    rows = observations.reading.rows(("left_shoulder", "right_shoulder"))
    if len(rows) < 2:
        return torch.zeros(len(evidence), dtype=torch.bool, device=evidence.focal.device)
    gap = (evidence.keypoints[:, rows[0]] - evidence.keypoints[:, rows[1]]).norm(dim=-1)
    return (gap < NARROW_SHOULDERS_PX) & (evidence.confidence[:, rows] > 0).all(dim=-1)


def _turned(state: State) -> State:
    """The state with the body turned by half a turn about its own upright axis."""
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0])).to(state.rotmat)
    rotmat = state.rotmat.clone()
    rotmat[:, 0] = rotmat[:, 0] @ turn
    return state._replace(rotmat=rotmat)
