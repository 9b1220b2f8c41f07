"""Labels corrected by their owner: keypoints moved or swapped, the body refitted to them at once.

The refit goes on from the label: where nothing was moved, its depth is kept by its own joints as
points in space. Nothing here reads or writes a file.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import MODES, Annotator, Fit, Stage, refine
from pchmr.annotate.kinematics import State, points, pose
from pchmr.annotate.observed import Observations
from pchmr.body.joints import mirror_name
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat

CORRECTED = "corrected by hand: nothing predicts its error, look and decide"
FAR_PX = 1000.0  # radius of trust: what a person has placed is no outlier
STEPS = 5  # of each stage: a correction begins close to its end
SURE = 1.0  # confidence of a keypoint that a person placed
KEPT_SD, MOVED_SD = 0.1, 1.0  # metres, of a label's own point in space: as it was, and moved
HALF_TURN = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def refit(
    annotator: Annotator,
    label: dict[str, ndarray],
    size: tuple[int, int],
    *,
    moved: Sequence[int] = (),
    turned: bool = False,
) -> dict[str, ndarray]:
    """The label of a frame fitted to its own keypoints, from where it is.

    Args:
        annotator: Body and prior of the label.
        label: Arrays of one frame; `keypoints_2d` as they are wanted.
        size: Width and height of its picture.
        moved: Keypoints whose depth is no longer known.
        turned: Whether the person may face the other way; then both are tried.

    Returns:
        The arrays that changed, one frame each. No predictor knows the error of a corrected label,
        so its owner decides.
    """
    states = [_state(label, annotator)]
    if turned:
        states.append(_facing_away(states[0]))
    together = State(*(torch.cat(parts) for parts in zip(*states, strict=True)))
    seen = _observations(annotator, label, size, moved, turned)
    rows = np.zeros(len(states), dtype=np.int64)
    mode = MODES["strong-2d" if turned else "deposer-keypoint"]
    mode = replace(mode, refine=tuple(map(_trusting, mode.refine)))
    fit = refine(annotator, seen.take(rows), mode, together)
    return _arrays(annotator, fit, int(fit.energy.argmin()), label)


def _arrays(
    annotator: Annotator, fit: Fit, best: int, label: dict[str, ndarray]
) -> dict[str, ndarray]:
    state = fit.state.take(torch.tensor([best]))
    fit = replace(fit, state=state)
    rotvec = rotmat_to_rotvec(state.rotmat).cpu().numpy()
    values = {
        "global_orient": rotvec[:, 0],
        "body_pose": rotvec[:, 1:],
        "betas": state.betas.cpu().numpy(),
        "transl": state.transl.cpu().numpy(),
        "vertices": annotator.vertices(fit).cpu().numpy(),
        "joints": annotator.label_joints(fit).cpu().numpy(),
        "smpl_joints": pose(annotator.skeleton, state).joints.cpu().numpy(),
    }
    found = {name: value.astype(np.float32) for name, value in values.items()}
    unknown = [name for name in label if name.startswith(("residual_", "joint_std"))]
    for name in (*unknown, "predicted_error_mm"):
        found[name] = np.full_like(label[name], np.nan)
    found["status"] = np.array(["review"], dtype=label["status"].dtype)
    found["reason"] = np.array([CORRECTED], dtype="U160")
    found["doubt"] = np.array([""], dtype="U96")
    found["calibrated"] = np.array([False])
    return {name: value for name, value in found.items() if name in label}


def _trusting(stage: Stage) -> Stage:
    """A stage that takes keypoints at their word, however far they are."""
    return Stage(iterations=STEPS, weights=replace(stage.weights, rho_px=FAR_PX))


def swapped(
    keypoints: Float[ndarray, "keypoints 3"], names: Sequence[str]
) -> Float[ndarray, "keypoints 3"]:
    """Keypoints with left and right exchanged."""
    own = list(names)
    mirror = [mirror_name(name) for name in own]
    rows = [own.index(other) if other in own else row for row, other in enumerate(mirror)]
    return keypoints[rows]


def _state(label: dict[str, ndarray], annotator: Annotator) -> State:
    like = annotator.body.v_template
    turns = np.concatenate([label["global_orient"][:, None], label["body_pose"]], axis=1)
    zero = torch.zeros(1, 2).to(like)
    scale = torch.tensor([[1.0, 0.0]]).to(like)
    return State(
        rotmat=rotvec_to_rotmat(torch.from_numpy(turns).to(like)),
        betas=torch.from_numpy(label["betas"]).to(like),
        transl=torch.from_numpy(label["transl"]).to(like),
        depth=scale,
        log_focal=zero[:, 0],
        tilt=zero,
    )


def _facing_away(state: State) -> State:
    """The same person turned half around their own upright axis."""
    rotmat = state.rotmat.clone()
    rotmat[:, 0] = rotmat[:, 0] @ torch.tensor(HALF_TURN).to(rotmat)
    return state._replace(rotmat=rotmat)


def _observations(
    annotator: Annotator,
    label: dict[str, ndarray],
    size: tuple[int, int],
    moved: Sequence[int],
    turned: bool,
) -> Observations:
    """What the person says, and the label's own points in space where they still hold."""
    names = tuple(label["keypoint_names"].tolist())
    table = label["keypoints_2d"].astype(np.float64)
    seen = Observations(
        keypoints_2d=table,
        keypoint_names=names,
        image_size=np.array([size]),
        intrinsics=label["intrinsics"].astype(np.float64),
    )
    pixel_sigma = np.full((1, len(names)), np.nan)
    pixel_sigma[0, list(moved)] = 0.0
    seen = replace(seen, keypoint_sigma=pixel_sigma)
    if turned:
        return seen
    reading = seen.reading
    state = _state(label, annotator)
    rig = annotator.points.rig.take(annotator.points.indices(reading.points))
    places = points(rig, pose(annotator.skeleton, state), state.betas)[0].cpu().double().numpy()
    space = np.full((1, len(names), 3), np.nan)
    space[0, list(reading.columns)] = places
    sigma = np.full((1, len(names)), KEPT_SD)
    sigma[0, list(moved)] = MOVED_SD
    return replace(seen, keypoints_3d=space, keypoints_3d_sigma=sigma)
