"""Keypoints by name: whose names we read, and which point of the body each name stands for.

Names decide, never positions. A name that two conventions define differently (a COCO hip lies on
the skin's side of a Human3.6M hip) follows the names beside it: Human3.6M's own names without any
of COCO's make it Human3.6M's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pchmr.body.joints import COCO_17, COCO_23, H36M_17
from pchmr.data.errors import InputError

SIDES = ("left", "right")
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
KNUCKLES = FINGERS[1:]
LEAST_KEYPOINTS = 4
BONES = {"up_leg": "hip", "leg": "knee", "arm": "shoulder", "fore_arm": "elbow", "hand": "wrist"}
"""Joints that motion files name after the bone that begins there."""


def _goliath_hand(side: str) -> tuple[str, ...]:
    joints = tuple(f"{side}_{finger}{part}" for finger in FINGERS for part in range(4, 0, -1))
    return (*joints, f"{side}_wrist")


GOLIATH_70 = (
    *(name for name in COCO_23.names if not name.endswith("wrist")),
    *_goliath_hand("right"),
    *_goliath_hand("left"),
    *(f"{side}_{part}" for part in ("olecranon", "cubital_fossa", "acromion") for side in SIDES),
    "neck",
)
"""The first 70 of the 308 keypoints of Sapiens: body, feet, right hand, left hand, elbows, neck."""

NUM_SAPIENS = 308
HALPE_26 = (
    *COCO_17.names,
    "head_top",
    "neck",
    "pelvis",
    *(f"{side}_{toe}" for toe in ("big_toe", "small_toe", "heel") for side in SIDES),
)
COCO_WHOLE_BODY = 133
MMPOSE = {
    len(COCO_17): COCO_17.names,
    len(HALPE_26): HALPE_26,
    COCO_WHOLE_BODY: COCO_23.names,
}
"""Names of MMPose's first keypoints, by how many a model has."""
SYNONYMS = {
    "root": "pelvis",
    "hip": "pelvis",
    "hips": "pelvis",
    "mid_hip": "pelvis",
    "midhip": "pelvis",
    "center_hip": "pelvis",
    "spine": "torso",
    "belly": "torso",
    "thorax": "neck",
    "neck_base": "nose",
    "neck_nose": "nose",
    "head": "head_top",
    "headtop": "head_top",
    "left_foot": "left_ankle",
    "right_foot": "right_ankle",
    **{f"{side}_{part}": f"{side}_{joint}" for side in SIDES for part, joint in BONES.items()},
}
"""Names of other tools: Human3.6M's variants, MPI-INF-3DHP, OpenPose."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SIDE = re.compile(r"^([LlRr])(?=[A-Z][A-Za-z]*$|[_\-\s.])")
_H36M_ONLY = frozenset(H36M_17.names) - frozenset(COCO_23.names)
_COCO_ONLY = frozenset(COCO_23.names) - frozenset(H36M_17.names)


def spelled(name: str) -> str:
    """A name in our spelling, its meaning aside: `RHip`, `r_hip`, `Right-Hip` are `right_hip`."""
    name = re.sub(r"\(.*\)", "", name).strip()
    name = _SIDE.sub(lambda m: {"l": "left_", "r": "right_"}[m[1].lower()], name)
    name = re.sub(r"[\s\-/.]+", "_", _CAMEL.sub("_", name)).lower()
    name = re.sub(r"_+", "_", name).strip("_")
    return re.sub(r"_third_joint$", "1", name)


def canonical_name(name: str) -> str:
    """The name of the point that a keypoint's name stands for: `root (pelvis)` is `pelvis`."""
    own = spelled(name)
    return SYNONYMS.get(own, own)


def _canonical(names: Sequence[str]) -> list[str]:
    """Canonical names of a list; a synonym gives way where the list has the name itself.

    MPI-INF-3DHP has `head` beside `head_top` and `left_foot` beside `left_ankle`. Where there is a
    forearm, `left_shoulder` is the collarbone's joint and `left_arm` the shoulder.
    """
    own = [spelled(name) for name in names]
    if any(name.endswith("fore_arm") for name in own):
        own = [f"{name}_of_collarbone" if name.endswith("shoulder") else name for name in own]
    taken = set(own) | ({"torso"} if {"spine1", "spine2"} & set(own) else set())
    found = []
    for name in own:
        meant = SYNONYMS.get(name, name)
        found.append(name if meant in taken else meant)
        taken |= {meant} - {name}
    return found


@dataclass(frozen=True)
class Reading:
    """What a list of keypoint names means for a body.

    Attributes:
        columns: Positions in the list of the keypoints that are used.
        points: Their points in `BodyPoints`.
        ignored: Names that stand for no point of the body.
    """

    columns: tuple[int, ...]
    points: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the keypoints that are used."""
        return tuple(point.partition(":")[2] for point in self.points)

    def rows(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows of keypoints by canonical names, among those used; absent ones are left out."""
        own = self.names
        return tuple(own.index(name) for name in names if name in own)


@lru_cache(maxsize=64)
def read_names(names: tuple[str, ...]) -> Reading:
    """Which keypoints of a list the body has; a list is resolved once.

    Raises:
        InputError: A name stands twice, or hardly any name is known.
    """
    own = _canonical(names)
    twice = sorted({name for name in own if own.count(name) > 1})
    if twice:
        raise InputError(f"keypoint_names holds {twice[0]} twice: every keypoint needs one column")
    is_h36m = bool(set(own) & _H36M_ONLY) and not set(own) & _COCO_ONLY
    found, ignored = [], []
    for column, name in enumerate(own):
        if point := _point_of(name, is_h36m):
            found.append((column, point))
        else:
            ignored.append(str(names[column]))
    if len(found) < LEAST_KEYPOINTS:
        raise InputError(
            f"keypoint_names holds {len(found)} names that we know, at least {LEAST_KEYPOINTS} are "
            f"needed (unknown: {', '.join(ignored[:4]) or 'none'}): use COCO, COCO with feet, "
            "Sapiens or Human3.6M names"
        )
    columns, points = zip(*found, strict=True)
    return Reading(columns, points, tuple(ignored))


def _point_of(name: str, is_h36m: bool) -> str | None:
    if name in _H36M_ONLY or (is_h36m and name in H36M_17.names):
        return f"h36m:{name}"
    if name in COCO_23.names:
        return f"coco:{name}"
    is_knuckle = any(name == f"{side}_{finger}1" for side in SIDES for finger in KNUCKLES)
    return f"hand:{name}" if is_knuckle else None
