"""Feet on the ground: closed-form leg IK and the loop that plants a pose.

Everything runs on a few contact points of the mesh instead of all vertices; the caller moves the
finished mesh by the last millimetres. Frame: the body's own, y up, metres; angles in degrees.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pchmr.body.joints import SMPL_24
from pchmr.data.synthetic.activities import ACTIVITIES
from pchmr.data.synthetic.kinematics import ContactPoints, forward_kinematics
from pchmr.data.synthetic.poses import (
    LIMITS,
    SIDES,
    SIGN,
    Angles,
    clamp,
    compose,
    rotation,
    xzy_angles,
)

PLANT_STEPS, SEAT_STEPS, LIFT_STEPS = 5, 4, 6
MOST_BELOW = 0.015  # metres that feet may reach below the seat of who sits on the floor
TOE_STANCE = 48.0
MASSES = {
    "pelvis": 0.13,
    "spine1": 0.1,
    "spine2": 0.1,
    "spine3": 0.16,
    "head": 0.08,
    "left_hip": 0.05,
    "right_hip": 0.05,
    "left_knee": 0.08,
    "right_knee": 0.08,
    "left_ankle": 0.025,
    "right_ankle": 0.025,
    "left_shoulder": 0.02,
    "right_shoulder": 0.02,
    "left_elbow": 0.025,
    "right_elbow": 0.025,
    "left_wrist": 0.015,
    "right_wrist": 0.015,
}
"""Shares of body mass lumped at joints, after the segment masses of Winter (2009)."""

_ANKLES = SMPL_24.indices(("left_ankle", "right_ankle"))
_HIPS = SMPL_24.indices(("left_hip", "right_hip"))
_KNEES = SMPL_24.indices(("left_knee", "right_knee"))
_PELVIS = SMPL_24.index("pelvis")
CARRIERS = ("seat", "left_knee", "right_knee", "left_sole", "right_sole")


@dataclass
class Stance:
    """What carries each body.

    Attributes:
        planted: Feet (N, 2) that rest on the ground or on a step.
        foot_pitch: Degrees (N, 2) by which a planted foot's heel is up; negative, its toes.
        ground: Height (N, 2) of what each foot stands on.
        rest_on: Name of the point set that carries the pelvis, or "feet".
        knelt: Knees (N, 2) that rest on the ground.
        lower: Rows in which only the foot that hangs lower is planted.
        balance: Share (N,) of the way by which the center of mass moves over the planted feet.
    """

    planted: Bool[np.ndarray, "batch 2"]
    foot_pitch: Float[np.ndarray, "batch 2"]
    ground: Float[np.ndarray, "batch 2"]
    rest_on: np.ndarray
    knelt: Bool[np.ndarray, "batch 2"]
    lower: Bool[np.ndarray, " batch"]
    balance: Float[np.ndarray, " batch"]


def stance_of(activities: np.ndarray, angles: Angles, step: Float[np.ndarray, " batch"]) -> Stance:
    """How activities meet the ground; `step` is the height of a step where one is used."""
    kinds = [ACTIVITIES[str(name)] for name in activities]
    support = np.array([kind.support for kind in kinds])
    planted = np.ones((len(kinds), 2), dtype=bool)
    pitch, ground = np.zeros((len(kinds), 2)), np.zeros((len(kinds), 2))
    rest_on = np.full(len(kinds), "feet", dtype="<U10")
    ground[:, 0] = np.where([kind.prop == "step" for kind in kinds], step, 0)
    pitch[support == "leading", 1] = TOE_STANCE
    drawn_up = np.clip(angles["knee_flexion"] / 70, 0, 1)
    pitch[support == "floor"] = (-60 + 60 * drawn_up)[support == "floor"]
    planted[support == "half_kneeling", 1] = False
    planted[support == "kneeling"] = False
    knelt = ~planted
    for name, part in (
        ("floor", "seat"),
        ("half_kneeling", "right_knee"),
        ("kneeling", "left_knee"),
    ):
        rest_on[support == name] = part
    balance = np.array([kind.balance for kind in kinds])
    return Stance(planted, pitch, ground, rest_on, knelt, support == "lower", balance)


class Planter:
    """Bends legs and ankles until the planted feet lie flat on what they stand on."""

    def __init__(
        self,
        points: ContactPoints,
        betas: Float[np.ndarray, "batch betas"],
        offsets: Float[np.ndarray, "batch points 3"],
    ) -> None:
        self.points = points
        self.joints_rest = points.rest_joints(betas)
        self.points_rest = points.rest_points(betas, offsets)

    def plant(self, angles: Angles, stance: Stance) -> None:
        """Changes leg angles in place, and lifts hands out of the ground."""
        clamp(angles)
        heights = self._sole_heights(*self._pose(angles))
        hangs_lower = np.arange(2) == heights.argmin(axis=1)[:, None]
        stance.planted[stance.lower] = hangs_lower[stance.lower]
        for _ in range(PLANT_STEPS):
            self._flatten_feet(angles, stance)
            self._move_ankles(angles, stance)
            self._lay_shins(angles, stance)
        self._flatten_feet(angles, stance)
        for _ in range(SEAT_STEPS):
            self._sit_back(angles, stance)
        for _ in range(LIFT_STEPS):
            self._lift_hands(angles)

    def _pose(self, angles: Angles) -> tuple[np.ndarray, np.ndarray]:
        return forward_kinematics(compose(angles), self.joints_rest, self.points.parents)

    def _heights(self, name: str, world: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Lowest y (N,) of a point set."""
        rows = self.points.members[name]
        shift = position - np.einsum("njxy,njy->njx", world, self.joints_rest)
        per_joint = np.concatenate([world[:, :, 1], shift[:, :, 1, None]], axis=-1)
        blended = self.points.weights[rows] @ per_joint
        height = (blended[..., :3] * self.points_rest[:, rows]).sum(axis=-1) + blended[..., 3]
        return height.min(axis=-1)

    def _sole_heights(self, world: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Lowest y of each sole (N, 2)."""
        soles = [self._heights(f"{side}_sole", world, position) for side in SIDES]
        return np.stack(soles, axis=-1)

    def _lift_hands(self, angles: Angles) -> None:
        """Bends elbows whose hands reach below what carries the body."""
        world, position = self._pose(angles)
        floor = np.stack([self._heights(name, world, position) for name in CARRIERS]).min(axis=0)
        hands = [self._heights(f"{side}_hand", world, position) for side in SIDES]
        below = np.stack(hands, axis=-1) < floor[:, None] + 0.01
        angles["elbow_flexion"] += 14.0 * below
        angles["arm_down"] -= 5.0 * below
        clamp(angles)

    def _sit_back(self, angles: Angles, stance: Stance) -> None:
        """Leans pelvis and legs back where feet reach below the seat; the trunk stays as it is."""
        seated = stance.rest_on == "seat"
        if not seated.any():
            return
        world, position = self._pose(angles)
        soles = self._sole_heights(world, position)
        below = self._heights("seat", world, position) - soles.min(axis=1)
        ankles = position[:, _ANKLES][np.arange(len(soles)), soles.argmin(axis=1)]
        away = np.hypot(*(ankles - position[:, _PELVIS])[:, ::2].T)
        lean = np.rad2deg(np.arctan2(below, np.maximum(away, 0.1)))
        lean = np.where(seated & (below > MOST_BELOW), lean, 0)
        angles["pelvis_flexion"] -= lean
        angles["trunk_flexion"] += lean
        clamp(angles)

    def _flatten_feet(self, angles: Angles, stance: Stance) -> None:
        """Turns planted feet level (or to their pitch) as far as ankles allow."""
        world, _ = self._pose(angles)
        shin = world[:, _KNEES]
        pitch = np.deg2rad(stance.foot_pitch)[..., None]
        forward = np.cos(pitch) * shin[..., :, 2] + np.sin(pitch) * shin[..., :, 1]
        heading = np.rad2deg(np.arctan2(forward[..., 0], forward[..., 2]))
        wanted = rotation("y", heading) @ rotation("x", stance.foot_pitch)
        x, z, y = xzy_angles(np.swapaxes(shin, -1, -2) @ wanted)
        toe = np.clip(stance.foot_pitch, 0, None)
        for name, value in {
            "ankle_up": -x,
            "ankle_roll": SIGN * z,
            "ankle_turn": SIGN * y,
            "toe_up": toe,
        }.items():
            low, high = LIMITS[name]
            angles[name] = np.where(stance.planted, np.clip(value, low, high), angles[name])

    def _lay_shins(self, angles: Angles, stance: Stance) -> None:
        """Bends the knees that are knelt on until knee and toes touch together."""
        if not stance.knelt.any():
            return
        world, position = self._pose(angles)
        knees = [self._heights(f"{side}_knee", world, position) for side in SIDES]
        gap = self._sole_heights(world, position) - np.stack(knees, axis=-1)
        shin = self.joints_rest[:, _ANKLES] - self.joints_rest[:, _KNEES]
        less = np.rad2deg(gap / np.linalg.norm(shin, axis=-1))
        angles["knee_flexion"] -= np.where(stance.knelt, less, 0)
        clamp(angles)

    def _move_ankles(self, angles: Angles, stance: Stance) -> None:
        world, position = self._pose(angles)
        soles = self._sole_heights(world, position)
        ankles = position[:, _ANKLES] + self._balance(stance, position)[:, None]
        ankle_height = stance.ground + ankles[..., 1] - soles
        rise = self._reachable_rise(stance, position, ankles, ankle_height)
        for name in CARRIERS:
            rows = stance.rest_on == name
            if rows.any():
                rise = np.where(rows, -self._heights(name, world, position), rise)
        target = ankles - position[:, _HIPS]
        far = np.linalg.norm(target, axis=-1)
        target[..., 1] = ankle_height - rise[:, None] - position[:, _HIPS][..., 1]
        seated = stance.rest_on == "seat"
        target[seated] = _slid(target[seated], far[seated])
        local = np.einsum("nyx,nky->nkx", world[:, _PELVIS], target)
        self._solve_legs(angles, local, stance.planted)

    def _reachable_rise(
        self, stance: Stance, position: np.ndarray, ankles: np.ndarray, ankle_height: np.ndarray
    ) -> np.ndarray:
        """How far the body may rise (N,) and every planted foot still reaches its ground."""
        rise = ankle_height - ankles[..., 1]
        flat = ankles[..., ::2] - position[:, _HIPS][..., ::2]
        room = np.clip(self._leg_length() ** 2 - (flat**2).sum(axis=-1), 0.01, None)
        reachable = ankle_height + np.sqrt(room) - position[:, _HIPS][..., 1]
        limit = np.where(stance.planted, np.minimum(rise, reachable), np.inf).min(axis=-1)
        return np.where(np.isfinite(limit), limit, 0.0)

    def _leg_length(self) -> np.ndarray:
        rest = self.joints_rest
        thigh = np.linalg.norm(rest[:, _KNEES] - rest[:, _HIPS], axis=-1)
        return 0.997 * (thigh + np.linalg.norm(rest[:, _ANKLES] - rest[:, _KNEES], axis=-1))

    def _balance(self, stance: Stance, position: np.ndarray) -> np.ndarray:
        """Horizontal shift (N, 3) of the feet that brings them under the center of mass."""
        joints = SMPL_24.indices(tuple(MASSES))
        mass = np.array(list(MASSES.values()))
        center = (position[:, joints] * mass[:, None]).sum(axis=1) / mass.sum()
        share = stance.planted / np.maximum(stance.planted.sum(axis=1, keepdims=True), 1)
        feet = (position[:, _ANKLES] * share[..., None]).sum(axis=1) + np.array([0, 0, 0.045])
        shift = np.clip(stance.balance[:, None] * (center - feet), -0.3, 0.3)
        shift[:, 1] = 0
        return shift

    def _solve_legs(self, angles: Angles, target: np.ndarray, rows: np.ndarray) -> None:
        """Hip and knee angles that bring ankles to `target` (N, 2, 3) from the hip, pelvis frame.

        Closed form: the knee from the distance, outward from x, flexion in the plane that is left.
        """
        rest = self.joints_rest
        thigh, shin = rest[:, _KNEES] - rest[:, _HIPS], rest[:, _ANKLES] - rest[:, _KNEES]
        knee = _knee_angle(thigh, shin, np.linalg.norm(target, axis=-1))
        leg = thigh + np.einsum("nkxy,nky->nkx", rotation("x", knee), shin)
        leg = np.einsum("nkxy,nky->nkx", rotation("y", SIGN * angles["hip_axial"]), leg)
        radius = np.hypot(leg[..., 0], leg[..., 1])
        ratio = np.clip(target[..., 0] / np.maximum(radius, 1e-9), -1, 1)
        outward = np.arctan2(-leg[..., 1], leg[..., 0]) - np.arccos(ratio)
        lifted = np.einsum("nkxy,nky->nkx", rotation("z", np.rad2deg(outward)), leg)
        turn = np.arctan2(target[..., 2], target[..., 1]) - np.arctan2(
            lifted[..., 2], lifted[..., 1]
        )
        flexion = -np.rad2deg((turn + np.pi) % (2 * np.pi) - np.pi)
        found = {
            "hip_flexion": flexion,
            "hip_outward": SIGN * np.rad2deg(outward),
            "knee_flexion": knee,
        }
        for name, value in found.items():
            low, high = LIMITS[name]
            angles[name] = np.where(rows, np.clip(value, low, high), angles[name])


def _slid(target: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Feet slid along the floor until they lie `far` from the hip again: knees keep their bend."""
    level = np.sqrt(np.clip(far**2 - target[..., 1] ** 2, 0.01, None))
    across = np.clip(target[..., 0], -0.6 * level, 0.6 * level)
    return np.stack([across, target[..., 1], np.sqrt(level**2 - across**2)], axis=-1)


def _knee_angle(thigh: np.ndarray, shin: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Flexion in degrees at which hip and ankle lie `distance` apart (law of cosines in 3D)."""
    along = thigh[..., 1] * shin[..., 1] + thigh[..., 2] * shin[..., 2]
    aside = thigh[..., 2] * shin[..., 1] - thigh[..., 1] * shin[..., 2]
    squares = (thigh**2).sum(axis=-1) + (shin**2).sum(axis=-1)
    rest = (distance**2 - squares) / 2 - thigh[..., 0] * shin[..., 0]
    ratio = np.clip(rest / np.maximum(np.hypot(along, aside), 1e-9), -1, 1)
    low, high = LIMITS["knee_flexion"]
    return np.clip(np.rad2deg(np.arctan2(aside, along) + np.arccos(ratio)), low, high)
