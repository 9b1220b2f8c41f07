"""Joint angles in words of anatomy, their limits, and the rotations they stand for.

A pose is a dict of angles in degrees. Keys that start with a limb hold (N, 2): left, right, both
counted the same way (outward is outward on either side), so mirroring a pose swaps two columns.
Keys of the trunk and the head hold (N,). Contact with the ground is `contact.py`, activities are
`activities.py`.

The rest pose is the T-pose of the SMPL format: y up, z forward, x to the person's left.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from pchmr.body.joints import SMPL_24

Angles = dict[str, np.ndarray]
Degrees = float | int

SIDES = ("left", "right")
SIGN = np.array([1.0, -1.0])
"""Sign of a rotation about y or z that goes outward on the left and on the right."""

LIMITS: dict[str, tuple[float, float]] = {
    "pelvis_flexion": (-35, 75),
    "pelvis_side": (-25, 25),
    "pelvis_turn": (-40, 40),
    "trunk_flexion": (-30, 75),
    "trunk_side": (-35, 35),
    "trunk_turn": (-50, 50),
    "neck_flexion": (-25, 30),
    "neck_side": (-20, 20),
    "neck_turn": (-35, 35),
    "head_flexion": (-35, 40),
    "head_side": (-25, 25),
    "head_turn": (-55, 55),
    "hip_flexion": (-30, 130),
    "hip_outward": (-20, 55),
    "hip_axial": (-30, 50),
    "knee_flexion": (0, 148),
    "ankle_up": (-50, 35),
    "ankle_roll": (-25, 25),
    "ankle_turn": (-30, 30),
    "toe_up": (-25, 55),
    "collar_up": (-6, 28),
    "arm_down": (-80, 88),
    "arm_forward": (-60, 165),
    "arm_across": (-35, 75),
    "arm_twist": (-95, 80),
    "elbow_flexion": (0, 145),
    "wrist_roll": (-45, 45),
    "wrist_turn": (-25, 25),
    "wrist_bend": (-50, 50),
    "finger_curl": (0, 75),
}
"""Degrees. Ranges of healthy adults, rounded inward (AAOS, 1965), trunk summed over three joints.

`arm_down` counts from the T-pose, so the range above the horizontal is negative.
"""

NOISE: dict[str, tuple[float, float]] = {
    "pelvis_side": (0, 3),
    "pelvis_turn": (0, 4),
    "trunk_flexion": (0, 4),
    "trunk_side": (0, 5),
    "trunk_turn": (0, 6),
    "neck_flexion": (0, 5),
    "neck_side": (0, 4),
    "neck_turn": (0, 8),
    "head_flexion": (0, 10),
    "head_side": (0, 6),
    "head_turn": (0, 18),
    "hip_flexion": (0, 4),
    "hip_outward": (4, 4),
    "hip_axial": (6, 8),
    "knee_flexion": (0, 4),
    "ankle_up": (0, 6),
    "ankle_roll": (0, 3),
    "ankle_turn": (0, 3),
    "arm_down": (0, 7),
    "arm_forward": (0, 10),
    "arm_across": (0, 8),
    "arm_twist": (0, 15),
    "elbow_flexion": (0, 12),
    "wrist_roll": (0, 12),
    "wrist_turn": (0, 8),
    "wrist_bend": (0, 12),
}
"""Mean and standard deviation in degrees of what every activity adds to its template."""

LIMBS = ("hip", "knee", "ankle", "toe", "collar", "arm", "elbow", "wrist", "finger")
SPINE_SHARES = {"spine1": 0.4, "spine2": 0.35, "spine3": 0.25}


def is_sided(name: str) -> bool:
    """Whether an angle exists on the left and on the right."""
    return name.split("_")[0] in LIMBS


class Draw:
    """Numbers of a pose as smooth functions of time: half a constant of the clip, half drift.

    Draws are taken in order from normal latents, so a template reads like a recipe and still
    gives the same clip at any frame rate.
    """

    def __init__(
        self,
        constant: Float[np.ndarray, "batch latents"],
        drift: Float[np.ndarray, "batch latents"],
    ) -> None:
        self.constant = constant
        self.latent = np.sqrt(0.5) * (constant + drift)
        self.taken = 0

    def __len__(self) -> int:
        return len(self.latent)

    def _next(self, source: np.ndarray) -> np.ndarray:
        assert self.taken < source.shape[1], "a template draws more numbers than a clip holds"
        self.taken += 1
        return source[:, self.taken - 1]

    def uniform(self, low: Degrees, high: Degrees) -> Float[np.ndarray, " batch"]:
        """Between low and high, drifting within the clip."""
        return low + (high - low) * ndtr(self._next(self.latent))

    def normal(self, mean: Degrees, sd: Degrees) -> Float[np.ndarray, " batch"]:
        """Normal, cut at 2.5 standard deviations, drifting within the clip."""
        return mean + sd * np.clip(self._next(self.latent), -2.5, 2.5)

    def chance(self, probability: float) -> Bool[np.ndarray, " batch"]:
        """True with the given probability, fixed for the clip."""
        return ndtr(self._next(self.constant)) < probability


def neutral(count: int) -> Angles:
    """Standing upright with relaxed arms and hands."""
    angles = {n: np.zeros((count, 2) if is_sided(n) else (count,)) for n in LIMITS}
    angles["arm_down"][:] = 72
    angles["elbow_flexion"][:] = 12
    return angles


def add_noise(angles: Angles, draw: Draw, scale: float) -> None:
    """Adds what differs between people and moments to every angle, in place."""
    for name, (mean, sd) in NOISE.items():
        if is_sided(name):
            angles[name] += np.stack([draw.normal(mean, sd * scale) for _ in SIDES], axis=-1)
        else:
            angles[name] += draw.normal(mean, sd * scale)
    angles["finger_curl"] += np.stack([draw.uniform(0, 35) for _ in SIDES], axis=-1)


def clamp(angles: Angles) -> None:
    """Moves every angle into its limits, in place."""
    for name, (low, high) in LIMITS.items():
        np.clip(angles[name], low, high, out=angles[name])


def mirror(angles: Angles, rows: Bool[np.ndarray, " batch"]) -> None:
    """Swaps left and right in the given rows, in place."""
    for name, value in angles.items():
        if is_sided(name):
            value[rows] = value[rows][:, ::-1]
        elif name.endswith(("_side", "_turn")):
            value[rows] *= -1


def rotation(axis: str, degrees: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices about the axis x, y or z."""
    radians = np.deg2rad(degrees)
    cos, sin, out = np.cos(radians), np.sin(radians), np.zeros((*np.shape(radians), 3, 3))
    fixed = "xyz".index(axis)
    first, second = (fixed + 1) % 3, (fixed + 2) % 3
    out[..., fixed, fixed] = 1
    out[..., first, first], out[..., second, second] = cos, cos
    out[..., second, first], out[..., first, second] = sin, -sin
    return out


def xzy(
    x: Float[np.ndarray, "*batch"], z: Float[np.ndarray, "*batch"], y: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """R_x R_z R_y, degrees: the order in which every three-axis joint is counted here."""
    return rotation("x", x) @ rotation("z", z) @ rotation("y", y)


def xzy_angles(
    rotmat: Float[np.ndarray, "*batch 3 3"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles (x, z, y) in degrees of a rotation R_x R_z R_y; the inverse of `xzy`."""
    x = np.arctan2(rotmat[..., 2, 1], rotmat[..., 1, 1])
    z = np.arcsin(np.clip(-rotmat[..., 0, 1], -1, 1))
    y = np.arctan2(rotmat[..., 0, 2], rotmat[..., 0, 0])
    return np.rad2deg(x), np.rad2deg(z), np.rad2deg(y)


def compose(angles: Angles) -> Float[np.ndarray, "batch 24 3 3"]:
    """Local rotations of the 24 joints, root first, in the frame of the rest pose."""
    a = angles
    count = len(a["pelvis_turn"])
    out = np.broadcast_to(np.eye(3), (count, len(SMPL_24), 3, 3)).copy()

    def put(name: str, value: np.ndarray) -> None:
        if value.ndim == 4:
            for side, column in zip(SIDES, np.moveaxis(value, 1, 0), strict=True):
                out[:, SMPL_24.index(f"{side}_{name}")] = column
        else:
            out[:, SMPL_24.index(name)] = value

    put("pelvis", xzy(a["pelvis_flexion"], -a["pelvis_side"], a["pelvis_turn"]))
    for name, share in SPINE_SHARES.items():
        parts = (a["trunk_flexion"], -a["trunk_side"], a["trunk_turn"])
        put(name, xzy(*(share * part for part in parts)))
    for name in ("neck", "head"):
        put(name, xzy(a[f"{name}_flexion"], -a[f"{name}_side"], a[f"{name}_turn"]))
    put("hip", xzy(-a["hip_flexion"], SIGN * a["hip_outward"], SIGN * a["hip_axial"]))
    put("knee", rotation("x", a["knee_flexion"]))
    put("ankle", xzy(-a["ankle_up"], SIGN * a["ankle_roll"], SIGN * a["ankle_turn"]))
    put("foot", rotation("x", -a["toe_up"]))
    put("collar", rotation("z", SIGN * a["collar_up"]))
    put("shoulder", _shoulder(a))
    put("elbow", rotation("y", -SIGN * a["elbow_flexion"]))
    put("wrist", xzy(a["wrist_roll"], -SIGN * a["wrist_bend"], -SIGN * a["wrist_turn"]))
    put("hand", rotation("z", -SIGN * a["finger_curl"]))
    return out


def _shoulder(a: Angles) -> np.ndarray:
    lowered = rotation("z", -SIGN * a["arm_down"]) @ rotation("x", a["arm_twist"])
    return rotation("x", -a["arm_forward"]) @ rotation("y", -SIGN * a["arm_across"]) @ lowered
