"""One person as BVH: metres, y up, SMPL's joints and their T-pose as rest pose, an even rate.

Turns are in the order of the channels: Z, then Y, then X about the turned axes. The root has no
offset, so its position is the pelvis whichever way a reader adds the two.
"""

import warnings

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.predict.motion import Motion, even_times, resampled

ORDER = "Zrotation Yrotation Xrotation"
LEAST_END = 0.02  # metres


def bvh_text(motion: Motion, body: BodyModel) -> str:
    """The file of a person over the whole clip; gaps are filled, ends are held."""
    times, interval = even_times(motion.clip_seconds)
    rotmat, root = resampled(motion, times)
    ends = end_points(motion.rest, body)
    lines = ["HIERARCHY", *_joint(motion, body, ends, 0, 0)]
    lines += ["MOTION", f"Frames: {len(times)}", f"Frame Time: {interval:.8f}"]
    order = list(_depth_first(body.parents, 0))
    degrees = _euler(rotmat[:, order])
    rows = np.concatenate([root, degrees.reshape(len(times), -1)], axis=1)
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def end_points(rest: Float[np.ndarray, "24 3"], body: BodyModel) -> dict[int, np.ndarray]:
    """From each joint without a child to the farthest point of the skin that it carries."""
    skin = body.weights.argmax(dim=1).cpu().numpy()
    template = body.v_template.double().cpu().numpy()
    mean = rest_of_template(body)
    found = {}
    for joint in range(len(rest)):
        if joint in body.parents:
            continue
        own = template[skin == joint] - mean[joint]
        length = np.linalg.norm(own, axis=-1)
        far = own[length.argmax()] if len(own) else np.zeros(3)
        found[joint] = far if np.linalg.norm(far) >= LEAST_END else np.array([0, LEAST_END, 0])
    return found


def rest_of_template(body: BodyModel) -> Float[np.ndarray, "24 3"]:
    """Joints of the mean shape."""
    return (body.J_regressor @ body.v_template).double().cpu().numpy()


def _joint(
    motion: Motion, body: BodyModel, ends: dict[int, np.ndarray], joint: int, depth: int
) -> list[str]:
    """The lines of a joint and of all that hangs on it."""
    parent = body.parents[joint]
    tab, inner = "\t" * depth, "\t" * (depth + 1)
    offset = motion.rest[joint] - motion.rest[parent] if parent >= 0 else np.zeros(3)
    kind = "JOINT" if parent >= 0 else "ROOT"
    channels = f"3 {ORDER}" if parent >= 0 else f"6 Xposition Yposition Zposition {ORDER}"
    lines = [f"{tab}{kind} {SMPL_24.names[joint]}", f"{tab}{{"]
    lines += [f"{inner}OFFSET {_numbers(offset)}", f"{inner}CHANNELS {channels}"]
    for child in _children(body.parents, joint):
        lines += _joint(motion, body, ends, child, depth + 1)
    if joint in ends:
        end = f"{inner}\tOFFSET {_numbers(ends[joint])}"
        lines += [f"{inner}End Site", f"{inner}{{", end, f"{inner}}}"]
    return [*lines, f"{tab}}}"]


def _children(parents: tuple[int, ...], joint: int) -> list[int]:
    return [child for child, parent in enumerate(parents) if parent == joint]


def _depth_first(parents: tuple[int, ...], joint: int) -> list[int]:
    """Joints in the order in which the hierarchy names them."""
    return [
        joint,
        *(j for child in _children(parents, joint) for j in _depth_first(parents, child)),
    ]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)


def _euler(rotmat: Float[np.ndarray, "frames joints 3 3"]) -> Float[np.ndarray, "frames joints 3"]:
    """Degrees about Z, Y, X, without jumps of a whole turn from one frame to the next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at 90 degrees about Y, one of the others is free
        turns = Rotation.from_matrix(rotmat.reshape(-1, 3, 3)).as_euler("ZYX")
    return np.rad2deg(np.unwrap(turns.reshape(*rotmat.shape[:2], 3), axis=0))
