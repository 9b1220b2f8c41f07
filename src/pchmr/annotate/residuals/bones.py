"""Points in space about an unknown origin: where each bone points, once all are tilted as one.

Who names such points sees poses well, sizes and distances not at all, and the ground's slope badly.
So the body's bones are compared with the seen ones by direction, the length of the seen bone being
its leverage, and all of them may tilt about the camera's x and y axes at little cost. What the
points of a limb err together falls out of its bones, which so count as independent. Nothing here
says anything of shape.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights

TILT_SD = 0.2  # radians
SHORTEST = 1e-3  # metres
TOLD_SD = 0.04  # metres, of the end of a bone of a network's mesh
RHO_TOLD = 0.1  # metres


def bone_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """Metres between the ends of tilted bones as seen, and of the body's made as long."""
    if seen.bones is None or seen.bone_weight is None:
        return None
    about_x, about_y = (turn(frame.state.tilt[:, axis], axis) for axis in (0, 1))
    tilted = seen.bones @ (about_x @ about_y).mT
    apart, by_pose = _apart(frame, seen, tilted)

    def derive() -> Tensor:
        slope, columns = by_pose(), frame.skeleton.columns
        x_axis, y_axis = tilted.new_tensor([1.0, 0, 0]), about_x[:, None, :, 1]
        turned = [torch.linalg.cross(axis.expand_as(tilted), tilted) for axis in (x_axis, y_axis)]
        slope[..., columns.tilt] = -torch.stack(turned, dim=-1)
        return slope

    return Term("bones", apart, derive, seen.bone_weight, weights.rho_bone)


def told_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """The same for the bones of a network's mesh, which knows where the camera is."""
    if seen.told_bones is None:
        return None
    apart, derive = _apart(frame, seen, seen.told_bones)
    weight = torch.full_like(apart[..., 0], 1 / TOLD_SD)
    return Term("told", apart, derive, weight, RHO_TOLD)


def _apart(
    frame: Frame, seen: Evidence, bones: Float[Tensor, "batch bones 3"]
) -> tuple[Float[Tensor, "batch bones 3"], Callable[[], Tensor]]:
    """Metres between the ends of bones and of the body's made as long, and the slope by pose."""
    assert seen.bone_ends is not None
    first, last = seen.bone_ends.unbind(dim=-1)
    own = frame.keypoints[:, last] - frame.keypoints[:, first]
    size = own.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
    reach = bones.norm(dim=-1, keepdim=True)
    direction = own / size
    residual = reach * direction - bones

    def derive() -> Tensor:
        slope, columns = frame.blank(residual), frame.skeleton.columns
        by_point = frame.keypoint_jacobian.derivative
        moved = by_point[:, last] - by_point[:, first]
        moved[..., columns.betas] = 0
        along = (direction[..., None] * moved).sum(dim=-2, keepdim=True)
        across = moved - direction[..., None] * along
        slope[..., : moved.shape[-1]] = (reach / size)[..., None] * across
        return slope

    return residual, derive


def turn(angle: Tensor, axis: int) -> Tensor:
    """Rotations (B, 3, 3) by angles (B,) about the camera's x (0) or y (1) axis."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    rows = (one, zero, zero, zero, cos, -sin, zero, sin, cos)
    if axis:
        rows = (cos, zero, sin, zero, one, zero, -sin, zero, cos)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def tilt_term(frame: Frame, seen: Evidence, weights: Weights) -> Term | None:
    """How far the points as seen had to be tilted, radians."""
    if seen.bones is None:
        return None
    residual = frame.state.tilt[:, None]
    weight = torch.full_like(residual[..., 0], 1 / TILT_SD)

    def derive() -> Tensor:
        slope = frame.blank(residual)
        slope[:, 0, :, frame.skeleton.columns.tilt] = torch.eye(2).to(residual)
        return slope

    return Term("tilt", residual, derive, weight)
