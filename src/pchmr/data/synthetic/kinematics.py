"""Forward kinematics in numpy, and the few mesh points that can touch something.

Frame: the body's own, y up, metres. The full mesh is skinned by the body model, not here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24

POINTS_PER_SET = 30
SETS = {
    "left_sole": ("left_ankle", "left_foot"),
    "right_sole": ("right_ankle", "right_foot"),
    "left_knee": ("left_knee",),
    "right_knee": ("right_knee",),
    "seat": ("pelvis", "left_hip", "right_hip"),
    "left_hand": ("left_wrist", "left_hand", "left_elbow"),
    "right_hand": ("right_wrist", "right_hand", "right_elbow"),
}
"""Point sets and the joints whose skin they are taken from."""


@dataclass(frozen=True)
class ContactPoints:
    """The vertices of a body that can touch something, by set, with what skins them."""

    vertex: np.ndarray
    members: dict[str, np.ndarray]
    template: np.ndarray
    shapedirs: np.ndarray
    weights: np.ndarray
    joint_template: np.ndarray
    joint_dirs: np.ndarray
    parents: tuple[int, ...]

    def rest_joints(self, betas: np.ndarray) -> np.ndarray:
        """Joints (N, 24, 3) of the shaped body."""
        return self.joint_template + _shaped(betas, self.joint_dirs)

    def rest_points(self, betas: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Points (N, P, 3) of the shaped body, clothing offsets (N, P, 3) included."""
        return self.template + _shaped(betas, self.shapedirs) + offsets


def contact_points(body: BodyModel) -> ContactPoints:
    """Chooses, per set, vertices that lie far out in any direction but up, and some in between."""
    template, weights = _array(body.v_template), _array(body.weights)
    regressor, shapedirs = _array(body.J_regressor), _array(body.shapedirs)
    strongest = weights.argmax(axis=1)
    chosen: list[np.ndarray] = []
    members, start = {}, 0
    for name, joints in SETS.items():
        pools = [np.flatnonzero(strongest == SMPL_24.index(joint)) for joint in joints]
        picked = np.unique(np.concatenate([pool[_chosen(template[pool])] for pool in pools]))
        picked = picked if len(picked) else np.array([0])
        chosen.append(picked)
        members[name] = np.arange(start, start + len(picked))
        start += len(picked)
    vertex = np.concatenate(chosen)
    return ContactPoints(
        vertex=vertex,
        members=members,
        template=template[vertex],
        shapedirs=shapedirs[vertex],
        weights=weights[vertex],
        joint_template=regressor @ template,
        joint_dirs=np.einsum("jv,vxs->jxs", regressor, shapedirs),
        parents=body.parents,
    )


def _shaped(betas: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return np.einsum("ns,pxs->npx", betas, directions[..., : betas.shape[1]])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _chosen(points: np.ndarray) -> np.ndarray:
    """Rows that are extreme along directions that are not upward, and some in between."""
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    count = 4 * POINTS_PER_SET
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    turn = np.arange(count) * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=-1)
    extreme = (points @ directions[height < 0.3].T).argmax(axis=0)
    between = np.arange(0, len(points), max(len(points) // POINTS_PER_SET, 1))
    return np.unique(np.concatenate([extreme, between]))


def forward_kinematics(
    rotmat: Float[np.ndarray, "batch joints 3 3"],
    joints_rest: Float[np.ndarray, "batch joints 3"],
    parents: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """World rotations and positions of the joints; the root stays where it rests."""
    world, position = np.empty_like(rotmat), np.empty_like(joints_rest)
    world[:, 0], position[:, 0] = rotmat[:, 0], joints_rest[:, 0]
    for joint, parent in enumerate(parents[1:], start=1):
        world[:, joint] = world[:, parent] @ rotmat[:, joint]
        bone = joints_rest[:, joint] - joints_rest[:, parent]
        position[:, joint] = position[:, parent] + np.einsum("nij,nj->ni", world[:, parent], bone)
    return world, position
