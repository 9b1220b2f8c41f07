"""From what single frames say to a clip: one shape and one camera a person, motion that is steady.

`clip` fits all frames of a person together, pulled to a smoothed path of the joints that single
frames found (`annotate.clips`); it looks ahead. `live` filters as the frames come. `none` leaves
the frames as they are, but for shape and camera.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pchmr.annotate.clips import join_frames
from pchmr.annotate.deposer import MODES, Annotator, Fit
from pchmr.annotate.kinematics import State
from pchmr.annotate.observed import Observations
from pchmr.annotate.paths import Pull
from pchmr.annotate.solver import energy
from pchmr.body import BodyModel
from pchmr.config import Smoothing
from pchmr.data.errors import InputError
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from pchmr.perception.people import ALL, LARGEST
from pchmr.predict.joints import joint_names
from pchmr.predict.motion import leg_length, rest_joints
from pchmr.predict.one_euro import OneEuro, OneEuroTurns
from pchmr.predict.people import Clip
from pchmr.predict.posed import blocks, posed
from pchmr.predict.sightings import Sightings, numbered

LEAST_SECONDS, LEAST_FRAMES = 0.2, 3  # of a person who counts, where the clip is longer
MODE = "strong-2d"  # of the fit of a clip: what tells depth is in the path already
NAN = float("nan")
PULL = Pull(smooth_seconds=0.08, path_sd=0.01)


@dataclass(frozen=True, kw_only=True)
class Track:
    """One person: the frames and what was found in them.

    Attributes:
        rows: Of the clip, in which the person is there.
        time_seconds: Of these frames.
    """

    rows: Int[ndarray, " there"]
    time_seconds: Float[ndarray, " there"]
    global_orient: Float[ndarray, "there 3"]
    body_pose: Float[ndarray, "there bones 3"]
    betas: Float[ndarray, " betas"]
    transl: Float[ndarray, "there 3"]
    keypoints_2d: Float[ndarray, "there keypoints 3"]
    bbox_xyxy: Float[ndarray, "there 4"]


def steady_clip(
    seen: Sightings,
    body: BodyModel,
    smoothing: Smoothing,
    advance: Callable[[int], None],
    *,
    annotator: Annotator | None = None,
    who: str = ALL,
) -> Clip:
    """The people of a clip, numbered by who came first.

    Args:
        seen: What single frames say.
        body: Whose parameters they are.
        smoothing: How motion becomes steady.
        advance: Told how many frames are done.
        annotator: Fits clips; without it, they are filtered.
        who: "all", "largest", or a number from 1, by who came first.

    Raises:
        InputError: Nobody has the number.
    """
    camera = np.median(seen.intrinsics, axis=0)
    tracks = []
    everybody = kept(seen, numbered(seen))
    numbers = meant(seen, everybody, who)
    for rows in (everybody[number - 1] for number in numbers):
        track = one_shape(seen, rows, camera, body)
        if smoothing == "clip" and annotator is not None:
            track = fitted(track, seen, camera, annotator)
        elif smoothing != "none":
            track = filtered(track)
        tracks.append(track)
        advance(len(rows))
    return together(seen, tracks, numbers, camera, body)


def meant(seen: Sightings, everybody: list[ndarray], who: str) -> list[int]:
    """Numbers, from 1, of the people who are meant; the largest fills most of most frames."""
    if who == ALL or not everybody:
        return list(range(1, len(everybody) + 1))
    if who == LARGEST:
        sides = seen.bbox_xyxy[:, 2:] - seen.bbox_xyxy[:, :2]
        areas = [sides[rows].prod(axis=1).sum() for rows in everybody]
        return [int(np.argmax(areas)) + 1]
    if int(who) > len(everybody):
        raise InputError(f"--person {who}: {len(everybody)} people were found in the clip")
    return [int(who)]


def kept(seen: Sightings, numbers: Int[ndarray, " seen"]) -> list[ndarray]:
    """Rows of each person who was seen for long enough, who came first at first."""
    times, found = seen.time_seconds, []
    shown = float(times[-1] - times[0]) if len(times) else 0.0
    least = min(LEAST_SECONDS, shown / 2), min(LEAST_FRAMES, (len(times) + 1) // 2)
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        own = times[seen.frame[rows]]
        if own[-1] - own[0] >= least[0] and len(rows) >= least[1]:
            found.append(rows)
    return found


def one_shape(
    seen: Sightings, rows: Int[ndarray, " rows"], camera: Float[ndarray, "3 3"], body: BodyModel
) -> Track:
    """A person with one shape and one camera; who is drawn larger stands as much farther away.

    So the pixels stay, and distances no longer jump with the shape of each frame.
    """
    own = seen.take(rows)
    betas = trusted_mean(own["betas"], own["keypoints_2d"][..., 2].sum(axis=-1))
    new = rest_joints(body, betas)
    pelvis = np.empty((len(rows), 3))
    for row, (shape, transl) in enumerate(zip(own["betas"], own["transl"], strict=True)):
        old = rest_joints(body, shape)
        pelvis[row] = (transl + old[0]) * leg_length(new) / leg_length(old)
    frames = seen.frame[rows]
    focal = seen.intrinsics[frames, 0, 0]
    pelvis[:, 2] *= camera[0, 0] / focal
    return Track(
        rows=frames,
        time_seconds=seen.time_seconds[frames],
        global_orient=own["global_orient"].astype(np.float64),
        body_pose=own["body_pose"].astype(np.float64),
        betas=betas,
        transl=pelvis - new[0],
        keypoints_2d=own["keypoints_2d"],
        bbox_xyxy=own["bbox_xyxy"],
    )


def trusted_mean(
    values: Float[ndarray, "rows width"], trust: Float[ndarray, " rows"]
) -> Float[ndarray, " width"]:
    """Mean weighed by trust, without the farthest quarter."""
    distance = np.linalg.norm(values - np.median(values, axis=0), axis=-1)
    weight = np.maximum(trust * (distance <= np.quantile(distance, 0.75)), 1e-6)
    return weight @ values.astype(np.float64) / weight.sum()


def filtered(track: Track) -> Track:
    """One-Euro over the frames as they came."""
    turn, bend, move = OneEuroTurns(), OneEuroTurns(), OneEuro()
    rows = zip(track.time_seconds, track.global_orient, track.body_pose, track.transl, strict=True)
    steps = [
        (turn(orient[None], float(time))[0], bend(pose, float(time)), move(transl, float(time)))
        for time, orient, pose, transl in rows
    ]
    orient, pose, transl = (np.stack(values) for values in zip(*steps, strict=True))
    return replace(track, global_orient=orient, body_pose=pose, transl=transl)


def fitted(
    track: Track, seen: Sightings, camera: Float[ndarray, "3 3"], annotator: Annotator
) -> Track:
    """All frames of a person fitted together."""
    observations = Observations(
        keypoints_2d=track.keypoints_2d.astype(np.float64),
        keypoint_names=seen.keypoint_names,
        image_size=seen.image_size[track.rows],
        intrinsics=np.repeat(camera[None], len(track.rows), axis=0),
        time_seconds=track.time_seconds,
    )
    first = as_fit(track, observations, annotator)
    state = join_frames(annotator, observations, MODE, first, pull=PULL).state
    rotvec = rotmat_to_rotvec(state.rotmat.double()).cpu().numpy()
    return replace(
        track,
        global_orient=rotvec[:, 0],
        body_pose=rotvec[:, 1:],
        betas=state.betas[0].double().cpu().numpy(),
        transl=state.transl.double().cpu().numpy(),
    )


def as_fit(track: Track, observations: Observations, annotator: Annotator) -> Fit:
    """What single frames found, as the solver holds it."""
    like = annotator.body.v_template
    rotvec = np.concatenate([track.global_orient[:, None], track.body_pose], axis=1)
    rotmat = rotvec_to_rotmat(torch.from_numpy(rotvec)).to(like)
    count = len(rotmat)
    betas = torch.from_numpy(track.betas).to(like).expand(count, -1)
    zero = like.new_zeros(count)
    level = like.new_zeros(count, 2)
    transl = torch.from_numpy(track.transl).to(like)
    objective = annotator.objective(observations, depth=False, dense=False)
    state = State(rotmat, betas, transl, level, zero, level)
    weights = MODES[MODE].refine[-1].weights
    robust = energy(objective.terms_at(objective.frame(state), weights))
    return Fit(
        state=state,
        energy=robust,
        margin=zero,
        ambiguity=zero,
        objective=objective,
        weights=weights,
    )


def together(
    seen: Sightings,
    tracks: list[Track],
    numbers: list[int],
    camera: Float[ndarray, "3 3"],
    body: BodyModel,
) -> Clip:
    """The arrays of a clip; NaN where a person is not there."""
    shape = len(seen), len(tracks)
    there: Bool[ndarray, "frames people"] = np.zeros(shape, dtype=bool)
    size = {"global_orient": (3,), "body_pose": seen.body_pose.shape[1:], "transl": (3,)}
    size |= {"keypoints_2d": seen.keypoints_2d.shape[1:], "bbox_xyxy": (4,)}
    arrays = {name: np.full((*shape, *end), NAN) for name, end in size.items()}
    names = joint_names(body)
    joints = np.full((*shape, len(names), 3), NAN)
    for person, track in enumerate(tracks):
        there[track.rows, person] = True
        for name, values in arrays.items():
            values[track.rows, person] = getattr(track, name)
        for rows in blocks(len(track.rows)):
            found = posed(
                body,
                track.global_orient[rows],
                track.body_pose[rows],
                track.betas,
                track.transl[rows],
            )
            joints[track.rows[rows], person] = found[1]
    betas = [track.betas for track in tracks]
    return Clip(
        joints=joints,
        joint_names=names,
        betas=np.stack(betas) if betas else np.zeros((0, seen.betas.shape[-1])),
        intrinsics=camera,
        keypoint_names=seen.keypoint_names,
        track_id=np.array(numbers, dtype=np.int64),
        time_seconds=seen.time_seconds,
        has_person=there,
        **arrays,
    )
