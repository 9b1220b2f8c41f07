"""The solver's unknowns, the kinematic chain, and the analytic derivative of rigged points.

Unknowns, in the order of the columns: a turn of every joint (radians, about the three camera axes
through the joint, carrying all that hangs on it), betas, translation (metres), depth scale and
shift, log focal length, tilt of observed points in space (radians about the camera's x, then y). A
turn d acts as `R <- R_parent' exp(d) R_parent R` on the local rotation, with the parent's rotation
in the camera frame: a left increment seen from the camera. Pose correctives are in the points and
left out of the derivative.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.rig import Rig
from pchmr.body.skinning import NUM_BETAS, Skinning
from pchmr.geometry import rotvec_to_rotmat

MIN_ANGLE = 1e-4


class State(NamedTuple):
    """Unknowns of a batch of frames.

    Attributes:
        rotmat: Local rotations (B, 24, 3, 3), root in the camera frame.
        betas: Shape (B, 10).
        transl: Metres (B, 3).
        depth: Scale and shift (B, 2) of the observed depth.
        log_focal: Log of the focal length over its start value (B,).
        tilt: Turns (B, 2) about the camera's x, after y, from observed points in space to the body.
    """

    rotmat: Tensor
    betas: Tensor
    transl: Tensor
    depth: Tensor
    log_focal: Tensor
    tilt: Tensor

    def take(self, rows: Tensor) -> "State":
        """Some frames."""
        return State(*(value[rows] for value in self))

    def where(self, keep: Tensor, other: "State") -> "State":
        """This state where `keep` (B,) holds, else the other."""
        pairs = zip(self, other, strict=True)
        return State(*(torch.where(keep.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))


@dataclass(frozen=True)
class Columns:
    """Where each unknown stands."""

    num_joints: int
    num_betas: int = NUM_BETAS

    @property
    def turns(self) -> slice:
        """Three a joint."""
        return slice(0, 3 * self.num_joints)

    @property
    def betas(self) -> slice:
        """Shape."""
        return slice(self.turns.stop, self.turns.stop + self.num_betas)

    @property
    def transl(self) -> slice:
        """Translation."""
        return slice(self.betas.stop, self.betas.stop + 3)

    @property
    def depth(self) -> slice:
        """Depth scale, depth shift."""
        return slice(self.transl.stop, self.transl.stop + 2)

    @property
    def focal(self) -> slice:
        """Log focal length."""
        return slice(self.depth.stop, self.depth.stop + 1)

    @property
    def tilt(self) -> slice:
        """Tilt of observed points in space."""
        return slice(self.focal.stop, self.focal.stop + 2)

    def __len__(self) -> int:
        return self.tilt.stop


@dataclass(frozen=True)
class Skeleton:
    """What of a body the chain needs.

    Attributes:
        joints: Rest joints (J, 3).
        joint_dirs: Their change per beta (J, 3, S).
        parents: Parent of each joint, -1 for the root.
    """

    joints: Float[Tensor, "joints 3"]
    joint_dirs: Float[Tensor, "joints 3 betas"]
    parents: tuple[int, ...]

    @classmethod
    def of(cls, body: Skinning) -> "Skeleton":
        """The skeleton of a body."""
        dirs = torch.einsum("jv,vxs->jxs", body.J_regressor, body.shapedirs[..., :NUM_BETAS])
        return cls(body.J_regressor @ body.v_template, dirs, body.parents)

    @property
    def columns(self) -> Columns:
        """Order of the unknowns."""
        return Columns(len(self.parents))


class Chain(NamedTuple):
    """A posed skeleton: rotations (B, J, 3, 3) and joints (B, J, 3) in the camera frame.

    `shift` (B, J, 3) is what a bone adds to a rotated rest point; `rest` (B, J, 3) are the joints
    before posing; `rotmat` the local rotations.
    """

    world: Tensor
    joints: Tensor
    shift: Tensor
    rest: Tensor
    rotmat: Tensor


@lru_cache(maxsize=8)
def _generations(parents: tuple[int, ...]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Joints by their distance from the root, with their parents; the root itself left out."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            depth[joint] = depth[parent] + 1
    levels = []
    for level in range(1, max(depth) + 1):
        joints = [j for j, d in enumerate(depth) if d == level]
        levels.append((torch.tensor(joints), torch.tensor([parents[j] for j in joints])))
    return tuple(levels)


@lru_cache(maxsize=8)
def descendants(parents: tuple[int, ...]) -> Tensor:
    """(J, J): one where the column's joint hangs on the row's, itself included."""
    below = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            below[:, joint] += below[:, parent]
    return below


def pose(skeleton: Skeleton, state: State) -> Chain:
    """The posed skeleton of every frame, generation by generation."""
    rest = skeleton.joints + torch.einsum("jxs,bs->bjx", skeleton.joint_dirs, state.betas)
    world, joints = state.rotmat.clone(), rest + state.transl[:, None]
    bones = (rest - rest[:, [max(parent, 0) for parent in skeleton.parents]])[..., None]
    for here, above in _generations(skeleton.parents):
        turned = world[:, above]
        world[:, here] = turned @ world[:, here]
        joints[:, here] = joints[:, above] + (turned @ bones[:, here])[..., 0]
    shift = joints - (world @ rest[..., None])[..., 0]
    return Chain(world, joints, shift, rest, state.rotmat)


def _rest_points(rig: Rig, chain: Chain, betas: Tensor) -> Tensor:
    """Weighted rest positions (B, K, J, 3) of the shaped body."""
    rest = rig.template + torch.einsum("kjxs,bs->bkjx", rig.shapedirs, betas)
    if rig.posedirs is not None:
        eye = torch.eye(3).to(betas)
        change = (chain.rotmat[:, 1:] - eye).flatten(start_dim=1)
        rest = rest + torch.einsum("kjxp,bp->bkjx", rig.posedirs, change)
    return rest


def points(rig: Rig, chain: Chain, betas: Tensor) -> Float[Tensor, "batch points 3"]:
    """Rigged points in the camera frame, metres."""
    rest = _rest_points(rig, chain, betas).flatten(start_dim=2)
    turned = chain.world.transpose(1, 2).flatten(start_dim=2)
    return rest @ turned.mT + rig.weights @ chain.shift


class PointJacobian(NamedTuple):
    """Points (B, K, 3), and their derivative (B, K, 3, C) by turns, betas and translation."""

    points: Tensor
    derivative: Tensor


def differentiate(rig: Rig, skeleton: Skeleton, chain: Chain, betas: Tensor) -> PointJacobian:
    """Points and their derivative; a joint's lever is what hangs on it, seen from the joint."""
    rest = _rest_points(rig, chain, betas).transpose(1, 2)
    carried = rest @ chain.world.mT + rig.weights.T[..., None] * chain.shift[:, :, None]
    below = descendants(skeleton.parents).to(carried)
    lever = (below @ carried.flatten(start_dim=2)).unflatten(-1, (len(rig), 3))
    share = below @ rig.weights.T
    lever = lever - share[..., None] * chain.joints[:, :, None]
    found = carried.sum(dim=1)
    batch, num_joints = carried.shape[:2]
    out = found.new_zeros(batch, len(rig), 3, 3 * num_joints + betas.shape[-1] + 3)
    turns = out[..., : 3 * num_joints].unflatten(-1, (num_joints, 3))
    x, y, z = (lever[..., axis].transpose(1, 2) for axis in range(3))
    turns[:, :, 1, :, 0], turns[:, :, 2, :, 0] = -z, y
    turns[:, :, 0, :, 1], turns[:, :, 2, :, 1] = z, -x
    turns[:, :, 0, :, 2], turns[:, :, 1, :, 2] = -y, x
    out[..., 3 * num_joints : -3] = _shape_columns(rig, skeleton, chain)
    for axis in range(3):
        out[:, :, axis, axis - 3] = 1
    return PointJacobian(found, out)


def _shape_columns(rig: Rig, skeleton: Skeleton, chain: Chain) -> Tensor:
    """d point / d betas (B, K, 3, S): each bone turns its own share and carries its joint's."""
    dirs, world = skeleton.joint_dirs, chain.world
    moved = dirs.expand(len(world), *dirs.shape).clone()
    for here, above in _generations(skeleton.parents):
        moved[:, here] = moved[:, above] + world[:, above] @ (dirs[here] - dirs[above])
    moved = moved - world @ dirs
    turned = world.transpose(1, 2).flatten(start_dim=2)
    num_betas = dirs.shape[-1]
    table = rig.shapedirs.flatten(1, 2).transpose(0, 1).flatten(start_dim=1)
    own = (turned @ table).unflatten(-1, (-1, num_betas)).transpose(1, 2)
    carried = (rig.weights @ moved.flatten(start_dim=2)).unflatten(-1, (3, num_betas))
    return own + carried


def step(skeleton: Skeleton, state: State, world: Tensor, change: Tensor) -> State:
    """The state after a change of all unknowns (B, C); `world` (B, J, 3, 3) is the old chain's."""
    columns = skeleton.columns
    turn = rotvec_to_rotmat(change[:, columns.turns].unflatten(-1, (-1, 3)))
    above = [max(parent, 0) for parent in skeleton.parents]
    parent = world[:, above].clone()
    parent[:, 0] = torch.eye(3).to(parent)
    return State(
        rotmat=_orthonormal(parent.mT @ turn @ parent @ state.rotmat),
        betas=state.betas + change[:, columns.betas],
        transl=state.transl + change[:, columns.transl],
        depth=state.depth + change[:, columns.depth],
        log_focal=state.log_focal + change[:, columns.focal][:, 0],
        tilt=state.tilt + change[:, columns.tilt],
    )


def _orthonormal(rotmat: Tensor) -> Tensor:
    """One Newton step towards the nearest rotations, so that rounding never adds up."""
    return 1.5 * rotmat - 0.5 * rotmat @ rotmat.mT @ rotmat


def log_jacobian(
    rotvec: Float[Tensor, "batch joints 3"], parent: Float[Tensor, "batch joints 3 3"]
) -> Float[Tensor, "batch joints 3 3"]:
    """d rotvec / d turn: the inverse left Jacobian of SO(3), turns seen from the camera."""
    angle = rotvec.norm(dim=-1, keepdim=True)[..., None].clamp_min(MIN_ANGLE)
    half = angle / 2
    factor = (1 - half * torch.cos(half) / torch.sin(half)) / angle.square()
    x, y, z = rotvec.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3).to(rotvec)
    return (eye - cross / 2 + factor * (cross @ cross)) @ parent.mT
