"""The motion of one person as a skeleton that other programs play: y up, a rest pose, turns.

The world of an export is the camera's, turned so that y is up: the camera is at the origin and
looks along -z, so a person who faces it faces +z. A neutral shape keeps the pixels: the person is
as much nearer as the legs are shorter, so feet that stand still do so with either shape.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation, Slerp

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.config import ShapeExport
from pchmr.predict.people import Clip

UPRIGHT = np.diag([1.0, -1.0, -1.0])
"""From the camera's axes (y down, z away) to those of an export (y up, z toward the viewer)."""
LEG = ("hip", "knee", "ankle")
EVEN = 0.5  # of an interval that frames of an even clip are off at most
USUAL_INTERVAL = 1 / 30  # of a clip of one frame


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One person; metres, the axes of an export.

    Attributes:
        number: Of the person in the clip.
        betas: Shape that is shown.
        rest: Joints of the rest pose.
        rotmat: Local rotations of the frames in which the person is there.
        root: Where the pelvis is in these frames.
        time_seconds: Of these frames.
        present: Of all frames of the clip, in which the person is there.
        clip_seconds: Times of all frames.
    """

    number: int
    betas: Float[np.ndarray, " betas"]
    rest: Float[np.ndarray, "joints 3"]
    rotmat: Float[np.ndarray, "frames joints 3 3"]
    root: Float[np.ndarray, "frames 3"]
    time_seconds: Float[np.ndarray, " frames"]
    present: Bool[np.ndarray, " all"]
    clip_seconds: Float[np.ndarray, " all"]


def motions(clip: Clip, body: BodyModel, shape: ShapeExport) -> list[Motion]:
    """The motion of everybody who is there in some frame."""
    people = range(len(clip.track_id))
    return [_motion(clip, body, shape, p) for p in people if clip.has_person[:, p].any()]


def _motion(clip: Clip, body: BodyModel, shape: ShapeExport, person: int) -> Motion:
    present = clip.has_person[:, person]
    betas, transl = exported(body, clip.betas[person], clip.transl[:, person], shape)
    rest = rest_joints(body, betas)
    rotvec = np.concatenate(
        [clip.global_orient[present, person, None], clip.body_pose[present, person]], axis=1
    )
    rotmat = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(*rotvec.shape, 3)
    rotmat[:, 0] = UPRIGHT @ rotmat[:, 0]
    return Motion(
        number=int(clip.track_id[person]),
        betas=betas,
        rest=rest,
        rotmat=rotmat,
        root=(transl[present] + rest[0]) @ UPRIGHT,
        time_seconds=clip.time_seconds[present],
        present=present,
        clip_seconds=clip.time_seconds,
    )


def exported(
    body: BodyModel,
    betas: Float[np.ndarray, " betas"],
    transl: Float[np.ndarray, "frames 3"],
    shape: ShapeExport,
) -> tuple[Float[np.ndarray, " betas"], Float[np.ndarray, "frames 3"]]:
    """Shape and SMPL's translation of a person as they leave: the mean shape unless asked for."""
    betas, transl = betas.astype(np.float64), transl.astype(np.float64)
    if shape == "fitted":
        return betas, transl
    neutral = np.zeros_like(betas)
    own, mean = rest_joints(body, betas), rest_joints(body, neutral)
    ratio = leg_length(mean) / leg_length(own)
    return neutral, (transl + own[0]) * ratio - mean[0]


def rest_joints(body: BodyModel, betas: Float[np.ndarray, " betas"]) -> Float[np.ndarray, "24 3"]:
    """Joints of the rest pose, metres."""
    given = torch.as_tensor(betas[None]).to(body.v_template)
    return body.rest_joints(given)[0].double().cpu().numpy()


def leg_length(rest: Float[np.ndarray, "24 3"]) -> float:
    """Hip to knee to ankle, mean of both sides."""
    legs = [[rest[SMPL_24.index(f"{side}_{part}")] for part in LEG] for side in ("left", "right")]
    return float(np.linalg.norm(np.diff(np.array(legs), axis=1), axis=-1).sum() / 2)


def even_times(times: Float[np.ndarray, " frames"]) -> tuple[Float[np.ndarray, " even"], float]:
    """Times at one interval from the first to the last frame, and the interval.

    Those of the frames themselves where their rate is constant.
    """
    if len(times) < 2:
        return times - times[:1], USUAL_INTERVAL
    mean = float((times[-1] - times[0]) / (len(times) - 1))
    even = times[0] + mean * np.arange(len(times))
    if np.abs(even - times).max() <= EVEN * mean:
        return even, mean
    step = float(np.median(np.diff(times)))
    return times[0] + step * np.arange(round((times[-1] - times[0]) / step) + 1), step


def resampled(
    motion: Motion, times: Float[np.ndarray, " even"]
) -> tuple[Float[np.ndarray, "even joints 3 3"], Float[np.ndarray, "even 3"]]:
    """Local rotations and the pelvis at other times; held before the first and after the last."""
    own = motion.time_seconds
    if len(own) == 1:
        shape = (len(times), *motion.rotmat.shape[1:])
        return np.broadcast_to(motion.rotmat, shape), np.repeat(motion.root, len(times), axis=0)
    inside = np.clip(times, own[0], own[-1])
    joints = range(motion.rotmat.shape[1])
    turned = [Slerp(own, Rotation.from_matrix(motion.rotmat[:, j]))(inside) for j in joints]
    root = np.stack([np.interp(inside, own, motion.root[:, k]) for k in range(3)], axis=-1)
    return np.stack([turn.as_matrix() for turn in turned], axis=1), root
