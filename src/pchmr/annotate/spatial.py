"""Joints seen in space about an unknown origin: the bones between them, and a pose to start from.

The trunk is turned onto the seen one as a whole, then every limb, from the trunk outward, by the
shortest arc. Nothing here knows a picture or fits anything.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from pchmr.annotate.kinematics import Skeleton, State, points, pose
from pchmr.annotate.observed import LEAST_SEEN, Observations
from pchmr.annotate.rig import Rig
from pchmr.body.joints import SMPL_24
from pchmr.geometry import rotvec_to_rotmat
from pchmr.perception.names import SIDES

POINT_SD = 0.12  # metres, of a joint in space about the hips
SHARED = 0.85  # of the variance of two neighboring joints that they have in common
TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
LIMBS = tuple(
    (f"{side}_{joint}", f"{side}_{first}", f"{side}_{last}")
    for side in SIDES
    for joint, first, last in (
        ("shoulder", "shoulder", "elbow"),
        ("elbow", "elbow", "wrist"),
        ("hip", "hip", "knee"),
        ("knee", "knee", "ankle"),
        ("ankle", "heel", "big_toe"),
    )
)
"""Joints with the points between which the bone behind them lies, from the trunk outward."""

BONES = (
    *((first, last) for _, first, last in LIMBS),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_hip", "left_shoulder"),
    ("right_hip", "right_shoulder"),
    ("left_ear", "right_ear"),
    ("left_ear", "nose"),
    ("right_ear", "nose"),
    ("pelvis", "torso"),
    ("torso", "neck"),
    ("neck", "head_top"),
)
"""Pairs of points of which every one says where a part of the body points."""


class SeenBones(NamedTuple):
    """Bones as `residuals.Evidence` holds them."""

    bones: Float[ndarray, "frames bones 3"]
    bone_weight: Float[ndarray, "frames bones"]
    bone_ends: Int[ndarray, "bones 2"]


def seen_bones(observations: Observations) -> SeenBones | None:
    """The bones of joints that were seen in space; None where there are none."""
    xyz = joints_in_space(observations)
    own = observations.reading.names
    ends = [(own.index(a), own.index(b)) for a, b in BONES if a in own and b in own]
    if xyz is None or not ends:
        return None
    pairs = np.array(ends)
    sigma = np.full(xyz.shape[:2], POINT_SD)
    if observations.keypoints_3d_sigma is not None:
        given = observations.keypoints_3d_sigma[:, list(observations.reading.columns)]
        sigma = np.where(np.isfinite(given), given, POINT_SD)
    bones = xyz[:, pairs[:, 1]] - xyz[:, pairs[:, 0]]
    known = np.asarray(np.isfinite(bones).all(axis=-1))
    apart = np.sqrt(1 - SHARED) * np.hypot(sigma[:, pairs[:, 0]], sigma[:, pairs[:, 1]])
    return SeenBones(np.where(known[..., None], bones, 0.0), np.where(known, 1 / apart, 0.0), pairs)


def joints_in_space(observations: Observations) -> Float[ndarray, "frames used 3"] | None:
    """The joints that the body has; NaN where they are unknown, or nobody was seen."""
    if observations.keypoints_3d is None:
        return None
    xyz = observations.keypoints_3d[:, list(observations.reading.columns)]
    has_person = observations.num_seen >= LEAST_SEEN
    return np.where(has_person[:, None, None], xyz, np.nan)


@torch.no_grad()
def pose_in_space(
    skeleton: Skeleton, rig: Rig, names: Sequence[str], xyz: Float[Tensor, "batch points 3"]
) -> Float[Tensor, "batch joints 3 3"]:
    """Local rotations of a body that points where joints in space do.

    Args:
        skeleton: Of the body.
        rig: The joints, on the body.
        names: Of the joints, canonical.
        xyz: Where they were seen; a part of which one is not finite stays as it is on its parent.
    """
    rest = _at_rest(skeleton, rig)
    rows = {name: row for row, name in enumerate(names)}
    trunk = [rows[name] for name in TRUNK if name in rows]
    world = torch.eye(3).to(xyz).repeat(len(xyz), len(skeleton.parents), 1, 1)
    world[:] = _turned_trunk(rest[trunk], xyz[:, trunk])[:, None]
    limbs = {joint: (first, last) for joint, first, last in LIMBS}
    for joint, name in enumerate(SMPL_24.names):
        parent = skeleton.parents[joint]
        if parent >= 0:
            world[:, joint] = world[:, parent]
        first, last = limbs.get(name, ("", ""))
        if first in rows and last in rows:
            a, b = rows[first], rows[last]
            now = (world[:, joint] @ (rest[b] - rest[a])[:, None])[..., 0]
            world[:, joint] = arc(now, xyz[:, b] - xyz[:, a]) @ world[:, joint]
    above = world[:, [max(parent, 0) for parent in skeleton.parents]].clone()
    above[:, 0] = torch.eye(3).to(xyz)
    return above.mT @ world


@torch.no_grad()
def told_bones(
    skeleton: Skeleton,
    rig: Rig,
    ends: Int[Tensor, "bones 2"],
    rotmat: Float[Tensor, "batch joints 3 3"],
    betas: Float[Tensor, "batch betas"],
) -> Float[Tensor, "batch bones 3"]:
    """The bones of posed bodies, metres in the camera frame.

    Beside the bones of joints in space they are a second word on the pose: networks that err on
    their own say more than either.
    """
    xyz = _posed(skeleton, rig, rotmat, betas)
    first, last = ends.unbind(dim=-1)
    return xyz[:, last] - xyz[:, first]


def _at_rest(skeleton: Skeleton, rig: Rig) -> Float[Tensor, "points 3"]:
    """The points of the body as it is built."""
    like, joints = rig.template, len(skeleton.parents)
    betas = like.new_zeros(1, rig.shapedirs.shape[-1])
    return _posed(skeleton, rig, torch.eye(3).to(like).expand(1, joints, 3, 3), betas)[0]


def _posed(
    skeleton: Skeleton,
    rig: Rig,
    rotmat: Float[Tensor, "batch joints 3 3"],
    betas: Float[Tensor, "batch betas"],
) -> Float[Tensor, "batch points 3"]:
    """The points of posed bodies that have not been moved."""
    still = betas.new_zeros(len(betas), 3)
    state = State(rotmat, betas, still, still[:, :2], still[:, 0], still[:, :2])
    return points(rig, pose(skeleton, state), betas)


def _turned_trunk(
    rest: Float[Tensor, "trunk 3"], xyz: Float[Tensor, "batch trunk 3"]
) -> Float[Tensor, "batch 3 3"]:
    """Rotation of the trunk (Kabsch, 1976); upright where too little of it was seen."""
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])).to(xyz)
    if len(rest) < len(TRUNK):
        return upright.expand(len(xyz), 3, 3)
    seen = xyz.isfinite().all(dim=-1).all(dim=-1)
    target = torch.nan_to_num(xyz) - torch.nan_to_num(xyz).mean(dim=1, keepdim=True)
    u, _, vt = torch.linalg.svd((rest - rest.mean(dim=0)).mT @ target)
    signs = torch.ones_like(u[..., 0])
    signs[..., -1] = torch.linalg.det(u @ vt)
    turned = (u * signs[..., None, :] @ vt).mT
    return torch.where(seen[:, None, None], turned, upright)


def arc(a: Float[Tensor, "batch 3"], b: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """The shortest rotation from one direction to another; none where either is unknown."""
    known = a.isfinite().all(dim=-1) & b.isfinite().all(dim=-1)
    a, b = (torch.nn.functional.normalize(torch.nan_to_num(v), dim=-1) for v in (a, b))
    axis = torch.linalg.cross(a, b)
    other = torch.linalg.cross(a, torch.eye(3).to(a)[a.abs().argmin(dim=-1)])
    sine = axis.norm(dim=-1, keepdim=True)
    axis = torch.where(sine > 1e-6, axis, other)
    angle = torch.atan2(sine[..., 0], (a * b).sum(dim=-1))
    rotvec = torch.nn.functional.normalize(axis, dim=-1) * angle[..., None]
    return rotvec_to_rotmat(torch.where(known[:, None], rotvec, 0.0))
