"""Keypoints by name: whose names we read, and which point of the body each name stands for.

Names decide, never positions. A name that two conventions define differently (a COCO hip lies on
the skin's side of a Human3.6M hip) follows the names beside it: Human3.6M's own names without any
of COCO's make it Human3.6M's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.rig import Rig, join, rig_joints, rig_regressor
from pchmr.annotate.surface import CLOTHING
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_23, H36M_17, SMPL_24
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


LABEL_POINTS = (
    *(f"coco:{name}" for name in COCO_23.names),
    *(f"h36m:{name}" for name in ("pelvis", "torso", "neck", "head_top")),
    *(f"smpl:{side}_hand" for side in SIDES),
)
LABEL_JOINTS = tuple(point.split(":")[1] for point in LABEL_POINTS)
FOOT_POINTS = tuple(
    f"coco:{side}_{part}" for side in SIDES for part in ("big_toe", "small_toe", "heel")
)
HAND_POINTS = tuple(
    point for side in SIDES for point in (f"coco:{side}_wrist", f"smpl:{side}_hand")
)


@dataclass(frozen=True)
class BodyPoints:
    """Every point of a body that a keypoint name can stand for.

    Attributes:
        names: `coco:`, `h36m:`, `hand:` (knuckles) and `smpl:` (hand joints), then the name.
        rig: The points, in that order.
        surface_offset: Metres from each point to the surface nearest to it at rest.
    """

    names: tuple[str, ...]
    rig: Rig
    surface_offset: Float[Tensor, " points"]

    @classmethod
    def of(cls, body: BodyModel) -> "BodyPoints":
        """The points of a body.

        Raises:
            InputError: The body brings no COCO regressor.
        """
        if not body.has_regressor(COCO_23):
            raise InputError(
                "body has no COCO regressor, annotation needs one: put J_regressor_coco.npy beside "
                "the body file"
            )
        hands = tuple(f"{side}_hand" for side in SIDES)
        names = [f"coco:{name}" for name in COCO_23.names]
        rows = [body.get_buffer("J_regressor_coco")]
        if body.has_regressor(H36M_17):
            names += [f"h36m:{name}" for name in H36M_17.names]
            rows.append(body.get_buffer("J_regressor_h36m"))
        names += [f"hand:{side}_{finger}1" for side in SIDES for finger in KNUCKLES]
        rows.append(torch.cat([knuckle_rows(body, side) for side in SIDES]))
        table = torch.cat(rows)
        rig = join([rig_regressor(body, table), rig_joints(body, hands)])
        rest = torch.cat([table, body.J_regressor[list(SMPL_24.indices(hands))]])
        offset = torch.cdist(rest @ body.v_template, body.v_template).amin(dim=-1) + CLOTHING
        names += [f"smpl:{name}" for name in hands]
        return cls(tuple(names), rig, offset)

    def indices(self, points: Sequence[str]) -> list[int]:
        """Positions of points.

        Raises:
            InputError: The body lacks one of them.
        """
        missing = [point for point in points if point not in self.names]
        if missing:
            raise InputError(
                f"body has no point for keypoint {missing[0].split(':')[1]}: put "
                "J_regressor_h36m.npy beside the body file, or leave the keypoint out"
            )
        return [self.names.index(point) for point in points]


def knuckle_rows(body: BodyModel, side: str) -> Float[Tensor, "4 vertices"]:
    """Regressor rows of the four knuckles of a hand, forefinger first.

    A slab of the template around the hand joint, across the arm, is cut into four bands from the
    thumb's side (forward in the T-pose) to the little finger's; a knuckle is the mean of its band.
    """
    bone = SMPL_24.index(f"{side}_hand")
    template = body.v_template
    joint = body.J_regressor[bone] @ template
    wrist = body.J_regressor[SMPL_24.index(f"{side}_wrist")] @ template
    reach = (joint - wrist).norm()
    share = body.weights[:, [bone, SMPL_24.index(f"{side}_wrist")]].sum(dim=-1)
    along, across = (template - joint)[:, 0], (template - joint)[:, 2]
    slab = (share > 0.5) & (along.abs() < 0.15 * reach) & (across.abs() < 0.6 * reach)
    slab = slab.nonzero()[:, 0]
    if len(slab) < len(KNUCKLES):
        slab = (template - joint).norm(dim=-1).argsort()[: 2 * len(KNUCKLES)]
    order = slab[across[slab].argsort(descending=True)]
    low, high = across[order[-1]], across[order[0]]
    rows = torch.zeros(len(KNUCKLES), body.num_vertices).to(template)
    band = ((high - across[order]) / (high - low).clamp_min(1e-6) * len(KNUCKLES)).long()
    for finger in range(len(KNUCKLES)):
        inside = order[band.clamp_max(len(KNUCKLES) - 1) == finger]
        if not len(inside):
            inside = order[finger * len(order) // len(KNUCKLES)][None]
        rows[finger, inside] = 1 / len(inside)
    return rows
