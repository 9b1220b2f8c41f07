"""Cameras, projection, rotations and similarity alignment, for any number of leading batch axes.

Rotations go through `roma`; nothing here knows a body or a joint.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COMPILER = "torch._dynamo"


def _imported_roma() -> Any:
    """roma, without the compiler of PyTorch, unless that is there already.

    roma imports it to keep two functions out of compiled graphs, none of which is used here. It
    takes 146 MB of memory and a third of the time that every command needs to start.
    """
    if COMPILER in sys.modules:
        return import_module("roma")
    stand_in = ModuleType(COMPILER)
    stand_in.__dict__["disable"] = lambda function: function
    sys.modules[COMPILER] = stand_in
    try:
        return import_module("roma")
    finally:
        del sys.modules[COMPILER]


roma = _imported_roma()


def rotvec_to_rotmat(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of rotation vectors in radians; the zero vector gives the identity."""
    return roma.rotvec_to_rotmat(rotvec)


def rotmat_to_rotvec(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vectors in radians, angle in [0, pi], of rotation matrices."""
    return roma.rotmat_to_rotvec(rotmat)


def project_weak_perspective(
    points: Float[Tensor, "*batch points 3"], camera: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch points 2"]:
    """Scaled orthographic projection s * (xy + t) into crop coordinates in [-1, 1].

    `camera` holds (s, tx, ty), as in FastMETRO (Cho et al., ECCV 2022, section 3.2).
    """
    scale, shift = camera[..., None, :1], camera[..., None, 1:]
    return scale * (points[..., :2] + shift)


def project_pinhole(
    points: Float[Tensor, "*batch points 3"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch points 2"]:
    """Perspective projection to pixels of camera-frame points in metres (x right, y down, z on)."""
    homogeneous = points @ intrinsics.mT
    return homogeneous[..., :2] / homogeneous[..., 2:]


def centered(
    points: Float[Tensor, "*batch points 3"], root: Sequence[int]
) -> Float[Tensor, "*batch points 3"]:
    """Points about the mean of those at the rows `root`, such as the hips."""
    return points - points[..., list(root), :].mean(dim=-2, keepdim=True)


def similarity_align(
    source: Float[Tensor, "*batch points 3"], target: Float[Tensor, "*batch points 3"]
) -> Float[Tensor, "*batch points 3"]:
    """`source` moved onto `target` by the best scale, rotation and translation (no reflection).

    See `similarity`, whose NaN an item gets that is not finite.
    """
    scale, rotation, _ = similarity(source, target)
    centred = source - source.mean(dim=-2, keepdim=True)
    middle = target.mean(dim=-2, keepdim=True)
    return scale[..., None, None] * (centred @ rotation) + middle


def similarity(
    source: Float[Tensor, "*batch points 3"],
    target: Float[Tensor, "*batch points 3"],
    *,
    is_rigid: bool = False,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 1 3"]]:
    """Scale, rotation and shift for `scale * (source @ rotation) + shift` closest to `target`.

    Closed-form least squares of Umeyama (PAMI 1991), batched; coincident source points keep
    scale zero instead of dividing by it. An item that is not finite, or too large for products of
    its coordinates to be, comes back as NaN and leaves the others alone. A rigid one has scale 1.
    """
    source_mean = source.mean(dim=-2, keepdim=True)
    target_mean = target.mean(dim=-2, keepdim=True)
    centred, wanted = source - source_mean, target - target_mean
    products = centred.mT @ wanted
    variance = centred.square().sum(dim=(-2, -1))
    finite = torch.isfinite(products).all(dim=-1).all(dim=-1) & torch.isfinite(variance)
    u, singular, vt = torch.linalg.svd(torch.where(finite[..., None, None], products, 0.0))
    sign = torch.linalg.det(u @ vt).sign()
    signs = torch.ones_like(singular)
    signs[..., -1] = torch.where(sign == 0, torch.ones_like(sign), sign)
    rotation = (u * signs[..., None, :]) @ vt
    scale = (singular * signs).sum(dim=-1) / variance.clamp_min(torch.finfo(source.dtype).tiny)
    if is_rigid:
        scale = torch.ones_like(scale)
    scale = torch.where(finite, scale, torch.nan)
    return scale, rotation, target_mean - scale[..., None, None] * (source_mean @ rotation)
