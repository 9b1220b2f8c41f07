"""The named joints of results: COCO's points, SMPL's joints, the top of the head."""

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17, H36M_17, SMPL_24

HEAD_TOP = "head_top"
BESIDE = tuple(name for name in SMPL_24.names if name not in COCO_17.names)


def joint_names(body: BodyModel) -> tuple[str, ...]:
    """What a body has of COCO's points, then of SMPL's joints, then the top of the head."""
    coco = COCO_17.names if body.has_regressor(COCO_17) else ()
    rest = tuple(name for name in SMPL_24.names if name not in coco)
    return (*coco, *rest, *((HEAD_TOP,) if body.has_regressor(H36M_17) else ()))


def named_joints(
    body: BodyModel,
    vertices: Float[Tensor, "people vertices 3"],
    smpl: Float[Tensor, "people 24 3"],
) -> Float[Tensor, "people joints 3"]:
    """The joints of `joint_names`, in the frame of the meshes.

    Args:
        body: Whose meshes they are.
        vertices: Of the people.
        smpl: Joints of their kinematic chains.
    """
    names = joint_names(body)
    parts = [body.regress(vertices, COCO_17)] if COCO_17.names[0] in names else []
    own = [name for name in SMPL_24.names if not parts or name in BESIDE]
    parts.append(smpl[:, list(SMPL_24.indices(tuple(own)))])
    if HEAD_TOP in names:
        row = H36M_17.index(HEAD_TOP)
        parts.append(body.regress(vertices, H36M_17)[:, row : row + 1])
    return torch.cat(parts, dim=1)
