"""A recorded skeleton's motion on the body's: every bone points where the recorded one does.

Rotations of the recording are taken over after a constant turn a joint, from our resting bone to
theirs. Rest poses differ in arms, in axes, and some string every limb along one axis: then the bend
of elbows and knees in the recording tells how its limbs are turned about themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from pchmr.body.joints import SMPL_24, SMPL_PARENTS
from pchmr.data.mocap.motion import facing_front

STANDS = {
    "hips": ("left_hip", "right_hip", ("spine1", "spine2", "spine3", "neck", "head")),
    "shoulders": ("left_shoulder", "right_shoulder", ("neck", "head")),
}
"""Left, right and what is above them, of the two parts of a body that hardly bend."""
LIMBS = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist"}
BELOW_HIPS, LEGS = ("pelvis", "spine1"), ("hip", "knee", "ankle", "foot")
CHESTS = ("spine3", "spine2", "spine1", "pelvis")
HINGES = {
    "left_hip": (1.0, 0.0, 0.0),
    "right_hip": (1.0, 0.0, 0.0),
    "left_shoulder": (0.0, -1.0, 0.0),
    "right_shoulder": (0.0, 1.0, 0.0),
}
"""About which axis of our rest pose the joint below bends: knees backward, elbows forward."""
SQUARE = list(Rotation.create_group("O"))
"""The 24 turns that take axes to axes."""
CROOKED = np.radians(30.0)
"""How far a rest pose may lean from the axes of its file and still count as upright in them."""
STRUNG = np.radians(60.0)
"""A resting limb farther than this from ours says nothing about its turn about itself."""
LEAST_BEND = 0.05  # mean sine of a joint's bend that tells its axis


@dataclass(frozen=True)
class Skeleton:
    """What a recording says of those of our joints that it has, by name.

    Attributes:
        rotations: Global, of every frame.
        places: Of joints in the rest pose.
        tips: From a joint to the end of its last bone.
    """

    rotations: Mapping[str, Rotation]
    places: Mapping[str, Float[ndarray, "3"]]
    tips: Mapping[str, Float[ndarray, "3"]]

    def bone(self, name: str, child: str) -> Float[ndarray, "3"] | None:
        """From a joint to one below it, at rest; None where nothing is known of it."""
        if child in self.places:
            return self.places[child] - self.places[name]
        return self.tips.get(name)


def retargeted(skeleton: Skeleton, rest: Float[ndarray, "24 3"]) -> Float[ndarray, "frames 24 3"]:
    """Local rotations of our joints; a joint that the recording lacks turns with its parent.

    Args:
        skeleton: With at least pelvis, hips, knees, shoulders and elbows.
        rest: Joints of our body in its rest pose, metres.
    """
    local = np.zeros((len(skeleton.rotations["pelvis"]), len(SMPL_24), 3))
    if not len(local):
        return local
    turns = _turns(skeleton, rest)
    ours: list[Rotation] = []
    for joint, name in enumerate(SMPL_24.names):
        parent = SMPL_PARENTS[joint]
        known = name in turns
        ours.append(skeleton.rotations[name] * turns[name] if known else ours[parent])
        if parent < 0:
            front = facing_front(ours[0].as_matrix())
            local[:, joint] = Rotation.from_matrix(front).as_rotvec()
        else:
            local[:, joint] = (ours[parent].inv() * ours[joint]).as_rotvec()
    return local


def _turns(skeleton: Skeleton, rest: Float[ndarray, "24 3"]) -> dict[str, Rotation]:
    """From our rest pose to theirs, of each joint; one that nothing is known of is left out."""
    stands = {part: _stand(skeleton, rest, part) for part in STANDS}
    found: dict[str, Rotation] = {}
    strung: set[str] = set()
    for joint, name in enumerate(SMPL_24.names):
        if name not in skeleton.rotations:
            continue
        is_low = name in BELOW_HIPS or name.split("_")[-1] in LEGS
        stand = stands["hips" if is_low else "shoulders"]
        above = SMPL_24.names[SMPL_PARENTS[joint]] if joint else ""
        bones = _bones(skeleton, rest, joint)
        if bones is None:
            if above not in strung:
                found[name] = stand
            continue
        arc = _arc(stand.apply(bones[0]), bones[1])
        found[name] = arc * stand
        if arc.magnitude() > STRUNG and name in HINGES:
            found[name] = _by_bend(skeleton, name, bones[1], found[name])
            strung.add(name)
        elif above in found and (arc.magnitude() > STRUNG or above in strung):
            found[name] = _by_rest(skeleton, (above, name), bones[0], found)
            strung.add(name)
    return found


def _bones(
    skeleton: Skeleton, rest: Float[ndarray, "24 3"], joint: int
) -> tuple[ndarray, ndarray] | None:
    """Our resting bone below a joint, and theirs; None below a joint of none or of several."""
    children = [k for k, parent in enumerate(SMPL_PARENTS) if parent == joint]
    if len(children) != 1:
        return None
    (child,) = children
    theirs = skeleton.bone(SMPL_24.names[joint], SMPL_24.names[child])
    if theirs is None or np.linalg.norm(theirs) < 1e-9:
        return None
    return rest[child] - rest[joint], theirs


def _by_rest(
    skeleton: Skeleton, pair: tuple[str, str], bone: Float[ndarray, "3"], turns: dict[str, Rotation]
) -> Rotation:
    """A joint's turn without what it would be turned about its own bone, on average, to the joint
    above it: what rests on both sides of most joints.
    """
    above, own = (skeleton.rotations[name] * turns[name] for name in pair)
    middle = (above.inv() * own).mean().as_quat()
    along = bone / np.linalg.norm(bone)
    angle = 2 * np.arctan2(middle[:3] @ along, middle[3])
    return turns[pair[1]] * Rotation.from_rotvec(-angle * along)


def _by_bend(skeleton: Skeleton, name: str, bone: Float[ndarray, "3"], turn: Rotation) -> Rotation:
    """A limb's turn, turned about it so that our axis of bending lies on the recorded one."""
    side, _, limb = name.partition("_")
    lower = f"{side}_{LIMBS[limb]}"
    below = skeleton.bone(lower, f"{side}_{LIMBS[LIMBS[limb]]}")
    if below is None or np.linalg.norm(below) < 1e-9:
        return turn
    along = bone / np.linalg.norm(bone)
    bent = (skeleton.rotations[name].inv() * skeleton.rotations[lower]).apply(below)
    axis = np.cross(along, bent / np.linalg.norm(below)).mean(axis=0)
    if np.linalg.norm(axis) < LEAST_BEND:
        return turn
    ours = turn.apply(HINGES[name])
    ours = ours - along * (along @ ours)
    angle = np.arctan2(along @ np.cross(ours, axis), ours @ axis)
    return Rotation.from_rotvec(angle * along) * turn


def _stand(skeleton: Skeleton, rest: Float[ndarray, "24 3"], part: str) -> Rotation:
    """How a part of our resting body stands in the rest pose of a recording, whose axes may be any.

    The nearest turn among those that take axes to axes, unless none is near.
    """
    left, right, above = STANDS[part]
    origin = "pelvis" if part == "hips" else next(n for n in CHESTS if n in skeleton.places)
    ups = [name for name in above if name in skeleton.places]
    theirs = _axes(lambda name: skeleton.places[name], left, right, origin, ups)
    ours = _axes(lambda name: rest[SMPL_24.index(name)], left, right, origin, ups)
    if theirs is None or ours is None:
        return Rotation.identity()
    turn = Rotation.from_matrix(theirs @ ours.T)
    nearest = min(SQUARE, key=lambda square: (square.inv() * turn).magnitude())
    return nearest if (nearest.inv() * turn).magnitude() < CROOKED else turn


def _axes(
    place: Callable[[str], ndarray], left: str, right: str, origin: str, ups: list[str]
) -> Float[ndarray, "3 3"] | None:
    """Orthonormal columns, left, up and front; None where what is above does not tell."""
    across = place(left) - place(right)
    fronts = (np.cross(across, place(name) - place(origin)) for name in ups)
    front = next((front for front in fronts if np.linalg.norm(front) > 1e-6), None)
    if front is None:
        return None
    across, front = across / np.linalg.norm(across), front / np.linalg.norm(front)
    return np.column_stack([across, np.cross(front, across), front])


def _arc(start: ndarray, end: ndarray) -> Rotation:
    """The shortest rotation between two directions; none where one has no length."""
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    if lengths < 1e-12:
        return Rotation.identity()
    axis, cos = np.cross(start, end) / lengths, float(start @ end) / lengths
    sin = float(np.linalg.norm(axis))
    if sin < 1e-9:
        return Rotation.identity() if cos > 0 else _half_turn(start)
    return Rotation.from_rotvec(axis / sin * np.arctan2(sin, cos))


def _half_turn(across: ndarray) -> Rotation:
    """Half a turn about some axis across a direction."""
    axis = np.cross(across, np.eye(3)[np.abs(across).argmin()])
    return Rotation.from_rotvec(np.pi * axis / np.linalg.norm(axis))
