"""Whether something else would explain what was seen better than the fit does, and how far it lies.

Sides that are exchanged, depth that runs backwards, keypoints without the depth beside them: each
is fitted beside the fit, and where it costs less, the distance between both is a floor under the
error, since one of the two is wrong.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.annotate.deposer import Fit, Stage, place, run_stages, yaw_starts
from pchmr.annotate.kinematics import Skeleton, State, pose
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Objective
from pchmr.annotate.solver import energy
from pchmr.body.joints import SMPL_24, mirror_name
from pchmr.metrics import MM_PER_METRE

ITERATIONS = 8
WRONG_SIDES_MM = 400.0  # MPJPE of a person whose left is right, about
CALM_ENERGY = 4.0  # of a fit a keypoint; those of wrong sides beside depth have 4.5 to 18
USUAL_GAIN, SURE_GAIN = -6.0, 9.0  # energy that exchanging the sides saves; right ones cost more
FLIP, HALF_TURN = (-1.0, 1.0, 1.0), (-1.0, 1.0, -1.0)  # diagonals
CALM_DEPTH_ENERGY = 3.2  # a keypoint; depth that is not the keypoints' has 3.4 and more
USUAL_TURNED, SURE_TURNED = -10.0, 10.0  # energy that depth saves by running backwards
USUAL_BENT, SURE_BENT = 10.0, 20.0  # energy of the keypoints that letting go of depth saves


def ramp(value: ndarray, usual: float, sure: float) -> ndarray:
    """0 up to the usual, 1 from where it is sure that something is wrong."""
    return np.clip((np.nan_to_num(value) - usual) / (sure - usual), 0.0, 1.0)


def exchanged_mm(
    observations: Observations, fit: Fit, *, is_settled: bool = True
) -> Float[ndarray, " frames"]:
    """Error of wrong sides, as far as the keypoints fit better with left and right exchanged.

    Names exchanged, or the picture mirrored, are met nearly as well by the body's mirror image in
    depth; perspective, the pose prior and depth tell the two apart. Beside keypoint depth a fit of
    wrong sides settles between both, so the exchanged one is looked for from all sides.
    """
    objective, names = fit.objective, observations.reading.names
    partner = [mirror_name(name) for name in names]
    rows = [names.index(p) if p in names else row for row, p in enumerate(partner)]
    stages = [Stage(iterations=ITERATIONS, weights=fit.weights)]
    with torch.no_grad():
        theirs = exchanged_energy(fit, rows, stages)
        ours = energy_of(fit) if is_settled else run_stages(objective, stages, fit.state).energy
    gain = (ours - theirs).double().cpu().numpy()
    return ramp(gain, USUAL_GAIN, SURE_GAIN) * WRONG_SIDES_MM


def exchanged_energy(
    fit: Fit, rows: list[int], stages: Sequence[Stage]
) -> Float[Tensor, " frames"]:
    """The least energy that frames have with left and right exchanged.

    Args:
        fit: Of the frames.
        rows: For every keypoint that of the other side.
        stages: To run from every start.
    """
    objective, state = fit.objective, fit.state
    other = replace(objective, rig=objective.rig.take(rows))
    starts = [in_depth_mirror(objective.skeleton, state), state]
    least = torch.stack([run_stages(other, stages, start).energy for start in starts]).amin(dim=0)
    trust = objective.evidence.confidence.sum(dim=-1).clamp_min(1.0)
    strained = (fit.energy / trust > CALM_ENERGY).nonzero()[:, 0]
    if objective.evidence.depth is None or not len(strained):
        return least
    objective = objective.take(strained)
    begun = yaw_starts(objective.skeleton, objective.prior, len(strained))
    starts = [start.take(strained) for start in starts]
    starts += [place(objective, start) for start in begun]
    found = [
        run_stages(one, stages, start).energy
        for one in exchanged(objective, rows)
        for start in starts
    ]
    least[strained] = torch.minimum(least[strained], torch.stack(found).amin(dim=0))
    return least


def exchanged(objective: Objective, rows: list[int]) -> list[Objective]:
    """Left and right exchanged in picture and depth, and in the picture alone."""
    other, seen = replace(objective, rig=objective.rig.take(rows)), objective.evidence
    if seen.depth is None or seen.depth_confidence is None:
        return [other]
    sharpness = None if seen.depth_sharpness is None else seen.depth_sharpness[:, rows]
    depth = replace(
        seen,
        depth=seen.depth[:, rows],
        depth_confidence=seen.depth_confidence[:, rows],
        depth_sharpness=sharpness,
    )
    return [other, replace(other, evidence=depth)]


def energy_of(fit: Fit) -> Tensor:
    """Robust energy (B,) of a fit under its own objective, without what a clip adds."""
    matches = fit.objective.associate(fit.state, fit.weights)
    frame = fit.objective.frame(fit.state, matches=matches)
    return energy(fit.objective.terms_at(frame, fit.weights))


def in_depth_mirror(skeleton: Skeleton, state: State) -> State:
    """The body mirrored at a plane that faces the camera, its joints' mean held."""
    sides = [SMPL_24.index(mirror_name(name)) for name in SMPL_24.names]
    flip, turn = (torch.diag(torch.tensor(d)).to(state.rotmat) for d in (FLIP, HALF_TURN))
    rotmat = flip @ state.rotmat[:, sides] @ flip
    rotmat[:, 0] = turn @ rotmat[:, 0]
    mirrored = state._replace(rotmat=rotmat)
    before, after = (pose(skeleton, one).joints.mean(dim=1) for one in (state, mirrored))
    return mirrored._replace(transl=state.transl + before - after)


def contradicted_mm(fit: Fit) -> Float[ndarray, " frames"]:
    """Distance to a pose that fits better with depth turned about, or without depth.

    Only frames are looked at whose energy is not that of depth and keypoints that agree.
    """
    seen = fit.objective.evidence
    floor = np.zeros(len(seen))
    if seen.depth is None or seen.bones is not None:
        return floor
    trust = seen.confidence.sum(dim=-1).clamp_min(1.0)
    strained = (energy_of(fit) / trust > CALM_DEPTH_ENERGY).nonzero()[:, 0]
    if not len(strained):
        return floor
    with torch.no_grad():
        fit = _without_rays(fit, strained)
        floor[strained.cpu().numpy()] = np.maximum(_turned_mm(fit), _without_depth_mm(fit))
    return floor


def _without_rays(fit: Fit, rows: Tensor) -> Fit:
    """Some frames, settled anew on keypoints and their depth if dense depth was beside them."""
    objective, state = fit.objective.take(rows), fit.state.take(rows)
    weights = replace(fit.weights, dense=0.0)
    if objective.evidence.rays is not None:
        objective = replace(objective, evidence=replace(objective.evidence, rays=None))
        state = run_stages(objective, [Stage(iterations=ITERATIONS, weights=weights)], state).state
    return replace(fit, objective=objective, state=state, weights=weights)


def _turned_mm(fit: Fit) -> Float[ndarray, " frames"]:
    """Where what is near is taken for far."""
    seen, state = fit.objective.evidence, fit.state
    assert seen.depth is not None and seen.depth_confidence is not None
    known = seen.depth.masked_fill(seen.depth_confidence <= 0, torch.nan)
    middle = known.nanmedian(dim=1, keepdim=True).values.nan_to_num()
    turned = replace(fit.objective, evidence=replace(seen, depth=2 * middle - seen.depth))
    starts = [state, in_depth_mirror(fit.objective.skeleton, state)]
    return _saved_mm(fit, replace(fit, objective=turned), starts, (USUAL_TURNED, SURE_TURNED))


def _without_depth_mm(fit: Fit) -> Float[ndarray, " frames"]:
    """Where the keypoints are bent to meet the depth."""
    seen = replace(fit.objective.evidence, depth=None)
    weights = replace(fit.weights, depth_sd=0.0)
    flat = replace(fit, objective=replace(fit.objective, evidence=seen), weights=weights)
    return _saved_mm(flat, flat, [fit.state], (USUAL_BENT, SURE_BENT))


def _saved_mm(
    fit: Fit, other: Fit, starts: Sequence[State], usual_to_sure: tuple[float, float]
) -> Float[ndarray, " frames"]:
    """Mean distance of the joints about the root from those of another objective's fit, as far as
    that one saves energy.
    """
    stages = [Stage(iterations=ITERATIONS, weights=other.weights)]
    best = run_stages(other.objective, stages, starts[0])
    for start in starts[1:]:
        found = run_stages(other.objective, stages, start)
        is_less = found.energy < best.energy
        state = found.state.where(is_less, best.state)
        best = best._replace(state=state, energy=torch.minimum(found.energy, best.energy))
    gain = (energy_of(fit) - best.energy).double().cpu().numpy()
    one, two = (pose(fit.objective.skeleton, state).joints for state in (fit.state, best.state))
    apart = (one - one[:, :1] - two + two[:, :1]).norm(dim=-1).mean(dim=-1)
    return ramp(gain, *usual_to_sure) * MM_PER_METRE * apart.double().cpu().numpy()
