"""Pose, shape and translation of the body that lies closest to a mesh of the same topology.

A network predicts vertices; viewers, engines and labels want SMPL parameters. Each part is first
turned rigidly onto the mesh, then all parameters are refined together by damped Gauss-Newton with
the analytic derivative of skinning. Nothing is drawn at random: the same mesh gives the same fit.

The derivative leaves pose correctives out (they are small; the residual has them), so bodies with
correctives converge too, in a few more steps.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body.skinning import Skinning
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat

SHAPE_PRIOR = 1e-4  # m^2 per squared standard deviation of a beta, against the sum over vertices
DAMPING = 1e-5  # m^2 per squared radian or metre of a step
MAX_STEPS = 20
LARGEST = 1e6  # metres: a mesh that reaches farther is none
TOLERANCE = 1e-10  # m^2 a vertex: a step that changes the cost by less is the last one


@dataclass(frozen=True, kw_only=True)
class BodyFit:
    """Parameters of a batch of bodies, and how well they explain the meshes.

    Attributes:
        global_orient: Rotation vector of the root.
        body_pose: Rotation vectors of the other joints.
        betas: Shape.
        transl: Metres.
        error: Mean distance of a vertex from its target, metres.
    """

    global_orient: Float[Tensor, "batch 3"]
    body_pose: Float[Tensor, "batch joints 3"]
    betas: Float[Tensor, "batch betas"]
    transl: Float[Tensor, "batch 3"]
    error: Float[Tensor, " batch"]


class _State(NamedTuple):
    rotmat: Float[Tensor, "batch joints 3 3"]
    betas: Float[Tensor, "batch betas"]
    transl: Float[Tensor, "batch 3"]


@torch.no_grad()
def fit_body(
    body: Skinning, vertices: Float[Tensor, "batch vertices 3"], *, max_steps: int = MAX_STEPS
) -> BodyFit:
    """The body parameters whose mesh lies closest to each mesh in squared distance.

    A mesh that is not finite gets NaN for all its parameters; the others are fitted as ever.

    Args:
        body: Body whose topology the meshes have.
        vertices: Meshes in metres, any frame.
        max_steps: After which it ends at the latest; few are enough for a start of another fit.
    """
    sound = (vertices.abs() < LARGEST).flatten(start_dim=1).all(dim=1)
    given, vertices = vertices, _where(sound, vertices, body.v_template.expand_as(vertices))
    state, target = _rigid_parts(body, vertices), _Target(vertices, None)
    state = _refined(body, state, target, max_steps)
    return _result(body, state, (_posed(body, state) - given).norm(dim=-1).mean(dim=-1), sound)


@torch.no_grad()
def fit_points(
    body: Skinning,
    points: Float[Tensor, "batch points 3"],
    regressor: Float[Tensor, "points vertices"],
    rotmat: Float[Tensor, "batch joints 3 3"],
    *,
    max_steps: int = MAX_STEPS,
) -> BodyFit:
    """The body parameters whose regressed points lie closest to those given; see `fit_body`.

    What points do not tell, as most turns of limbs about themselves, stays as it starts.

    Args:
        body: To fit.
        points: In metres, any frame.
        regressor: From the body's vertices to the points.
        rotmat: Local rotations to start from.
        max_steps: After which it ends at the latest.
    """
    nothing = points.new_zeros(len(points), body.num_betas)
    state = _State(rotmat, nothing, points.new_zeros(len(points), 3))
    offset = (points - regressor @ _posed(body, state)).mean(dim=1)
    target = _Target(points, regressor)
    state = _refined(body, state._replace(transl=offset), target, max_steps)
    error = (target.seen(_posed(body, state)) - points).norm(dim=-1).mean(dim=-1)
    return _result(body, state, error, torch.ones_like(error, dtype=torch.bool))


class _Target(NamedTuple):
    """Points to come close to: vertices, or what a regressor makes of them."""

    points: Float[Tensor, "batch points 3"]
    regressor: Float[Tensor, "points vertices"] | None

    def seen(self, vertices: Tensor) -> Float[Tensor, "batch points 3"]:
        """The points of a mesh."""
        return vertices if self.regressor is None else self.regressor @ vertices

    @property
    def prior(self) -> float:
        """Weight of the shape's prior: fewer points, less of it."""
        if self.regressor is None:
            return SHAPE_PRIOR
        return SHAPE_PRIOR * self.regressor.shape[0] / self.regressor.shape[1]


def _refined(body: Skinning, state: _State, target: _Target, max_steps: int) -> _State:
    """Damped Gauss-Newton: a step that makes an item worse is not taken."""
    cost = _cost(body, state, target)
    damping = torch.full_like(cost, DAMPING)
    for _ in range(max_steps):
        tried = _step(body, state, target, damping)
        tried_cost = _cost(body, tried, target)
        better = tried_cost < cost
        settled = (cost - tried_cost).abs() < TOLERANCE
        state = _State(*(_where(better, new, old) for new, old in zip(tried, state, strict=True)))
        cost = torch.where(better, tried_cost, cost)
        damping = torch.where(better, damping / 3, damping * 30)
        if bool(settled.all()):
            break
    return state


def _result(body: Skinning, state: _State, error: Tensor, sound: Tensor) -> BodyFit:
    """What was found; NaN where a mesh is none."""
    rotvec = rotmat_to_rotvec(state.rotmat)
    found = (rotvec[:, 0], rotvec[:, 1:], state.betas, state.transl, error)
    names = ("global_orient", "body_pose", "betas", "transl", "error")
    nothing = error.new_tensor(torch.nan)
    return BodyFit(
        **{name: _where(sound, value, nothing) for name, value in zip(names, found, strict=True)}
    )


def _where(keep: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(keep.view(-1, *[1] * (new.dim() - 1)), new, old)


def _cost(body: Skinning, state: _State, target: _Target) -> Float[Tensor, " batch"]:
    """Mean squared distance of a point, and the prior's share, in square metres."""
    squares = (target.seen(_posed(body, state)) - target.points).square().sum(dim=(1, 2))
    return (squares + target.prior * state.betas.square().sum(dim=1)) / target.points.shape[1]


def _posed(body: Skinning, state: _State) -> Float[Tensor, "batch vertices 3"]:
    rotmat = state.rotmat
    return body(rotmat[:, 0], rotmat[:, 1:], state.betas, state.transl).vertices


def _rigid_parts(body: Skinning, vertices: Tensor) -> _State:
    """Mean shape; every joint turned as its own part of the template lies in the mesh.

    Weighted rotation of Kabsch (Acta Crystallographica 1976) per joint.
    """
    share = body.weights / body.weights.sum(dim=0)
    source_mean = share.T @ body.v_template
    target_mean = share.T @ vertices
    products = torch.einsum("vj,vx,bvy->bjxy", share, body.v_template, vertices)
    products = products - source_mean[:, :, None] * target_mean[:, :, None, :]
    u, _, vt = torch.linalg.svd(products)
    signs = torch.ones_like(products[..., 0])
    signs[..., -1] = torch.linalg.det(u @ vt)
    world = (u * signs[..., None, :] @ vt).mT
    rotmat = torch.stack(
        [
            world[:, joint] if parent < 0 else world[:, parent].mT @ world[:, joint]
            for joint, parent in enumerate(body.parents)
        ],
        dim=1,
    )
    batch = len(vertices)
    still = _State(
        rotmat,
        vertices.new_zeros(batch, body.num_betas),
        vertices.new_zeros(batch, 3),
    )
    offset = (vertices - _posed(body, still)).mean(dim=1)
    return still._replace(transl=offset)


def _step(body: Skinning, state: _State, target: _Target, damping: Tensor) -> _State:
    """One damped Gauss-Newton step on all parameters of every item."""
    world, jacobian = _jacobian(body, state)
    if target.regressor is not None:
        of_vertices = jacobian.unflatten(1, (-1, 3))
        jacobian = torch.einsum("kv,bvxp->bkxp", target.regressor, of_vertices).flatten(1, 2)
    residual = (target.points - target.seen(_posed(body, state))).flatten(start_dim=1)
    num_betas, num_joints = body.num_betas, len(body.parents)
    normal = (jacobian.mT @ jacobian).double()
    right = (jacobian.mT @ residual[..., None])[..., 0].double()
    prior = torch.zeros_like(right)
    prior[:, 3 * num_joints : 3 * num_joints + num_betas] = target.prior
    right[:, 3 * num_joints : 3 * num_joints + num_betas] -= target.prior * state.betas
    normal += torch.diag_embed(prior + damping[:, None])
    change = torch.linalg.solve(normal, right).to(residual.dtype)
    turns, betas, transl = change.split([3 * num_joints, num_betas, 3], dim=-1)
    # About the joint's own axes: a product of rotations stays one, whatever rounding `world` has.
    own = (world.mT @ turns.unflatten(-1, (num_joints, 3, 1)))[..., 0]
    rotmat = state.rotmat @ rotvec_to_rotmat(own)
    return _State(rotmat, state.betas + betas, state.transl + transl)


def _jacobian(
    body: Skinning, state: _State
) -> tuple[Float[Tensor, "batch joints 3 3"], Float[Tensor, "batch coordinates parameters"]]:
    """World rotations, and the derivative of the posed vertices.

    Columns: a turn of each joint about the three camera axes through its centre, carrying all that
    hangs on it; betas; translation.
    """
    weights, parents = body.weights, body.parents
    rest = body.rest_joints(state.betas)
    per_beta = torch.einsum("jv,vxs->sjx", body.J_regressor, body.shapedirs).permute(1, 2, 0)
    world, joints, moved = (
        [state.rotmat[:, 0]],
        [rest[:, 0]],
        [per_beta[0].expand(len(rest), -1, -1)],
    )
    for joint, parent in enumerate(parents[1:], start=1):
        bone = rest[:, joint] - rest[:, parent]
        world.append(world[parent] @ state.rotmat[:, joint])
        joints.append(joints[parent] + (world[parent] @ bone[..., None])[..., 0])
        moved.append(moved[parent] + world[parent] @ (per_beta[joint] - per_beta[parent]))
    rotation, centre = torch.stack(world, dim=1), torch.stack(joints, dim=1)
    shape = _shape_columns(body, rotation, torch.stack(moved, dim=1), per_beta)
    turns = _turn_columns(body, state, rotation, rest, centre)
    shift = torch.eye(3, dtype=rest.dtype, device=rest.device)
    shift = shift.expand(len(rest), len(weights), 3, 3)
    return rotation, torch.cat([turns, shape, shift], dim=-1).flatten(1, 2)


def _shape_columns(body: Skinning, rotation: Tensor, moved: Tensor, per_beta: Tensor) -> Tensor:
    """d vertex / d betas (batch, V, 3, S): the blended rotation of its own, and the joints'."""
    blended = torch.einsum("vj,bjxy->bvxy", body.weights, rotation)
    of_joints = moved - rotation @ per_beta
    return blended @ body.shapedirs + torch.einsum("vj,bjxs->bvxs", body.weights, of_joints)


def _turn_columns(
    body: Skinning, state: _State, rotation: Tensor, rest: Tensor, centre: Tensor
) -> Tensor:
    """d vertex / d turns (batch, V, 3, 3J): each axis crossed with the lever that a joint moves.

    The axes are the camera's, so a cross product is two entries of the lever and a zero.
    """
    shaped = body.v_template + torch.einsum("vxs,bs->bvx", body.shapedirs, state.betas)
    offset = centre - (rotation @ rest[..., None])[..., 0]
    carried = torch.einsum("vj,bjxy,bvy->bvjx", body.weights, rotation, shaped)
    carried = carried + body.weights[..., None] * offset[:, None]
    below = _descendants(body.parents).to(carried)
    lever = torch.einsum("jk,bvkx->bvjx", below, carried)
    lever = lever - (body.weights @ below.T)[..., None] * centre[:, None]
    x, y, z = lever.unbind(-1)
    still = torch.zeros_like(x)
    rows = ((still, z, -y), (-z, still, x), (y, -x, still))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=2).flatten(start_dim=3)


def _descendants(parents: tuple[int, ...]) -> Tensor:
    """(J, J): whether the column's joint hangs on the row's, itself included."""
    below = torch.eye(len(parents), dtype=torch.bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            below[:, joint] |= below[:, parent]
    return below
