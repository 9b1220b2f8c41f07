"""Keypoints by name: whose names we read, and which point of the body each name stands for.

Names decide, never positions. A name that two conventions define differently (a COCO hip lies on
the skin's side of a Human3.6M hip) follows the names beside it: Human3.6M's own names without any
of COCO's make it Human3.6M's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pchmr.body.joints import COCO_23, H36M_17
from pchmr.data.errors import InputError

SIDES = ("left", "right")
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
KNUCKLES = FINGERS[1:]
LEAST_KEYPOINTS = 4


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
SYNONYMS = {
    "root": "pelvis", "hip": "pelvis", "mid_hip": "pelvis", "spine": "torso", "thorax": "neck",
    "neck_base": "nose", "head": "head_top", "left_foot": "left_ankle",
    "right_foot": "right_ankle",
}  # fmt: skip
_CAMEL = re.compile(r"^([LR])([A-Z][A-Za-z]*)$")
_H36M_ONLY = frozenset(H36M_17.names) - frozenset(COCO_23.names)
_COCO_ONLY = frozenset(COCO_23.names) - frozenset(H36M_17.names)


def canonical_name(name: str) -> str:
    """A keypoint's name in our spelling: `RHip`, `r_hip` and `Right-Hip` are `right_hip`."""
    if match := _CAMEL.match(name.strip()):
        side = {"L": "left", "R": "right"}[match[1]]
        name = f"{side}_{re.sub(r'(?<=[a-z])(?=[A-Z])', '_', match[2])}"
    name = re.sub(r"[\s\-]+", "_", name.strip()).lower()
    name = re.sub(r"^([lr])_", lambda m: {"l": "left_", "r": "right_"}[m[1]], name)
    name = re.sub(r"_third_joint$", "1", name)
    return SYNONYMS.get(name, name)


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


def read_names(names: Sequence[str]) -> Reading:
    """Which keypoints of a list the body has.

    Raises:
        InputError: A name stands twice, or hardly any name is known.
    """
    own = [canonical_name(name) for name in names]
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
