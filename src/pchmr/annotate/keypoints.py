"""The points of a body that keypoint names stand for, and those that labels hold."""

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
from pchmr.perception.names import KNUCKLES, SIDES

LABEL_POINTS = (
    *(f"coco:{name}" for name in COCO_23.names),
    *(f"h36m:{name}" for name in ("pelvis", "torso", "neck", "head_top")),
    *(f"smpl:{side}_hand" for side in SIDES),
)
LABEL_JOINTS = tuple(point.split(":")[1] for point in LABEL_POINTS)
FOOT_PARTS = ("big_toe", "small_toe", "heel")
FOOT_POINTS = tuple(f"coco:{side}_{part}" for side in SIDES for part in FOOT_PARTS)
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
