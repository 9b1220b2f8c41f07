"""Linear blend skinning in torch: shapes, optional pose correctives, joints, a kinematic chain.

Written from the description in Loper et al. (SIGGRAPH Asia 2015).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from pchmr.geometry import rotvec_to_rotmat

NUM_BETAS = 10  # shape parameters of every body


class BodyOutput(NamedTuple):
    """Posed bodies in metres: `vertices` (*batch, V, 3) and `joints` (*batch, 24, 3)."""

    vertices: Tensor
    joints: Tensor


class Skinning(nn.Module):
    """Shape, pose -> vertices, joints.

    Buffers: `v_template` (V, 3), `shapedirs` (V, 3, S), `posedirs` (V, 3, 9 * (J - 1)) or None,
    `J_regressor` (J, V), `weights` (V, J); metres.

    Attributes:
        parents: Parent of each joint, -1 for the root; a parent comes before its children.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor | None
    J_regressor: Tensor
    weights: Tensor
    _joint_template: Tensor
    _joint_dirs: Tensor
    _flat_template: Tensor
    _flat_shapes: Tensor
    _flat_correctives: Tensor | None
    _joint_weights: Tensor

    def __init__(self, arrays: Mapping[str, ndarray]) -> None:
        """Takes arrays under their SMPL names; `posedirs` may be missing."""
        super().__init__()
        self.parents = (-1, *(int(p) for p in arrays["kintree_table"][0, 1:]))
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights"):
            self.register_buffer(name, float_tensor(arrays.get(name)))
        self._register_blends()

    @property
    def num_betas(self) -> int:
        """Shape parameters."""
        return self.shapedirs.shape[-1]

    @property
    def num_vertices(self) -> int:
        """Vertices of the finest level."""
        return self.v_template.shape[0]

    def forward(
        self,
        global_orient: Float[Tensor, "*rotation"],
        body_pose: Float[Tensor, "*rotations"],
        betas: Float[Tensor, "*batch betas"],
        transl: Float[Tensor, "*batch 3"] | None = None,
    ) -> BodyOutput:
        """Posed vertices and joints.

        Args:
            global_orient: Rotation of the pelvis: (*batch, 3) vectors in radians, or (*batch, 3, 3)
                matrices.
            body_pose: Rotations of the other joints relative to their parents: (*batch, 23, 3), or
                (*batch, 23, 3, 3).
            betas: Shape, standard normal over people; fewer than `num_betas` leave the rest zero.
            transl: Shift in metres.
        """
        batch = betas.shape[:-1]
        root = _matrices(global_orient, (*batch, 3))[..., None, :, :]
        others = _matrices(body_pose, (*batch, len(self.parents) - 1, 3))
        rotmat = torch.cat([root, others], dim=-3).reshape(-1, len(self.parents), 3, 3)
        flat_betas = betas.reshape(-1, betas.shape[-1])
        joints_rest = self.rest_joints(flat_betas)
        world, joints = self._chain(rotmat, joints_rest)
        shift = joints - (world @ joints_rest[..., None])[..., 0]
        if transl is not None:
            move = transl.reshape(-1, 1, 3)
            joints, shift = joints + move, shift + move
        transforms = torch.cat([world, shift[..., None]], dim=-1)
        vertices = self._skin(transforms, self._rest_coordinates(flat_betas, rotmat))
        return BodyOutput(
            vertices.reshape(*batch, -1, 3), joints.reshape(*batch, len(self.parents), 3)
        )

    def rest_joints(self, betas: Float[Tensor, "*batch betas"]) -> Float[Tensor, "*batch joints 3"]:
        """Joints of the shaped body before posing, in metres."""
        joint_dirs = self._joint_dirs[: betas.shape[-1]]
        return self._joint_template + torch.einsum("...s,sjx->...jx", betas, joint_dirs)

    def _chain(self, rotmat: Tensor, joints_rest: Tensor) -> tuple[Tensor, Tensor]:
        """World rotations (B, J, 3, 3) and posed joints (B, J, 3)."""
        world, joints = [rotmat[:, 0]], [joints_rest[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            bone = joints_rest[:, joint] - joints_rest[:, parent]
            world.append(world[parent] @ rotmat[:, joint])
            joints.append(joints[parent] + (world[parent] @ bone[..., None])[..., 0])
        return torch.stack(world, dim=1), torch.stack(joints, dim=1)

    def _rest_coordinates(self, betas: Tensor, rotmat: Tensor) -> Tensor:
        """Shaped and corrected vertices, coordinates first: (B, 3, V)."""
        flat = torch.addmm(self._flat_template, betas, self._flat_shapes[: betas.shape[-1]])
        if self._flat_correctives is not None:
            change = rotmat[:, 1:] - torch.eye(3, dtype=rotmat.dtype, device=rotmat.device)
            flat = flat + change.flatten(start_dim=1) @ self._flat_correctives
        return flat.unflatten(-1, (3, -1))

    def _skin(self, transforms: Tensor, rest: Tensor) -> Tensor:
        """Linear blend skinning: transforms (B, J, 3, 4), rest (B, 3, V) -> (B, V, 3).

        Coordinates come first so that every product runs over contiguous vertices.
        """
        per_joint = transforms.flatten(start_dim=2).mT
        blended = (per_joint @ self._joint_weights).unflatten(1, (3, 4))
        moved = (blended[:, :, :3] * rest[:, None]).sum(dim=2) + blended[:, :, 3]
        return moved.mT.contiguous()

    def _register_blends(self) -> None:
        """Derived layouts of the same arrays, coordinates before vertices."""
        joint_dirs = torch.einsum("jv,vxs->sjx", self.J_regressor, self.shapedirs)
        derived = {
            "_joint_template": self.J_regressor @ self.v_template,
            "_joint_dirs": joint_dirs,
            "_flat_template": self.v_template.T.flatten(),
            "_flat_shapes": self.shapedirs.permute(2, 1, 0).flatten(start_dim=1),
            "_joint_weights": self.weights.T.contiguous(),
            "_flat_correctives": None
            if self.posedirs is None
            else self.posedirs.permute(2, 1, 0).flatten(start_dim=1),
        }
        for name, value in derived.items():
            self.register_buffer(name, value, persistent=False)


def float_tensor(array: ndarray | None) -> Tensor | None:
    """A float32 copy; None stays None."""
    return None if array is None else torch.from_numpy(np.array(array, dtype=np.float32))


def _matrices(rotation: Tensor, vector_shape: tuple[int, ...]) -> Tensor:
    """Rotation matrices from vectors of the given shape, or from matrices one axis deeper."""
    if tuple(rotation.shape) == vector_shape:
        return rotvec_to_rotmat(rotation)
    if tuple(rotation.shape) == (*vector_shape, 3):
        return rotation
    raise ValueError(
        f"rotations of shape {tuple(rotation.shape)}: expected vectors {vector_shape} or matrices "
        f"{(*vector_shape, 3)}"
    )
