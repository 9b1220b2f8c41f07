"""Augmentation of crops with their labels: flip, color gain, in-plane rotation, scale.

Order of FastMETRO and METRO: rotate and scale the crop, then mirror, then gain. Rotation turns the
camera about its axis, so every camera-frame label turns with it; scale changes the crop alone. Each
pixel is looked up once. Where a data set stores more than its crops, as imported ones do, what lies
beyond an edge comes into view as it does in the papers' code; elsewhere it is black.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.body.joints import BODY_POSE_MIRROR, EVALUATION_14
from pchmr.config import OptimOptions
from pchmr.data.bystanders import cut_outs, surrounded
from pchmr.data.sample import PeopleDataset, Sample, wide_batch
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far crops are changed.

    Attributes:
        flip: Share of mirrored crops.
        gain: Largest change of a color channel.
        rotate: Share of turned crops.
        degrees: Largest angle; the standard deviation of normal angles, cut off at twice it.
        scale: Largest change of the person's size; the standard deviation of a normal side of the
            square that is cut out, and where it is cut off.
        is_normal: Whether angle and scale are normal, otherwise uniform.
        on_pixels: Whether keypoints then lie on whole pixels, and count outside of the crop too.
    """

    flip: float = 0.5
    gain: float = 0.4
    rotate: float = 0.4
    degrees: float = 20.0
    scale: float = 0.15
    is_normal: bool = False
    on_pixels: bool = False


DEFAULT = Augmentation()
PUBLISHED = Augmentation(degrees=30.0, scale=0.25, is_normal=True, on_pixels=True)
"""That of METRO's code, which FastMETRO and TORE train with; its 2D labels are cut to pixels."""


def changed_batch(
    people: PeopleDataset,
    rows: Sequence[int] | np.ndarray,
    generator: torch.Generator,
    settings: Augmentation = DEFAULT,
) -> Sample:
    """Rows of a data set, augmented; what it stores beyond its crops' edges comes into view."""
    return augment(wide_batch(people, rows), generator, settings, side=people.image_size)


def training_batch(
    people: PeopleDataset,
    rows: Sequence[int] | np.ndarray,
    generator: torch.Generator,
    options: OptimOptions,
) -> Sample:
    """Rows of a data set as training sees them: augmented or not, as the settings say."""
    if not options.augment:
        return people.batch(rows)
    extent = PUBLISHED if options.augments_as_published else DEFAULT
    if not options.bystanders:
        return changed_batch(people, rows, generator, extent)
    others = cut_outs(people.image_size)
    sample = surrounded(wide_batch(people, rows), others, options.bystanders, generator)
    return augment(sample, generator, extent, side=people.image_size)


def augment(
    sample: Sample,
    generator: torch.Generator,
    settings: Augmentation = DEFAULT,
    *,
    side: int | None = None,
) -> Sample:
    """A changed copy of the batch; the generator alone decides how.

    Args:
        sample: People; pictures may hold more than their crops.
        generator: Draws all that is random.
        settings: How far crops are changed.
        side: Of the crop in the middle of the pictures, which labels are about; all without it.
    """
    batch, device = len(sample), sample.images.device
    side = side or sample.images.shape[-1]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator).to(device)

    def normal(limit: float) -> Tensor:
        return torch.randn(batch, generator=generator).clamp(-limit, limit).to(device)

    angle = normal(2.0) if settings.is_normal else uniform() * 2 - 1
    angle = angle * math.radians(settings.degrees)
    angle = torch.where(uniform() < settings.rotate, angle, torch.zeros_like(angle))
    if settings.is_normal:
        scale = 1 / (1 + normal(1.0) * settings.scale)  # of the square; a larger one holds more
    else:
        scale = 1 + (uniform() * 2 - 1) * settings.scale
    changed, seen = turn_labels(sample, angle, scale, side), sample.keypoints_2d[..., 2:]
    if settings.on_pixels:
        places = _on_pixels(changed.keypoints_2d[..., :2], side)
        changed = replace(changed, keypoints_2d=torch.cat([places, seen], dim=-1))
    flipped = uniform() < settings.flip
    changed = flip_labels(changed, flipped, side)
    images = warped(sample.images, side, angle, scale, flipped)
    gain = 1 + (uniform(3, 1, 1) * 2 - 1) * settings.gain
    return replace(changed, images=images.mul_(gain).clamp_(0, 1))


def _on_pixels(
    places: Float[Tensor, "batch joints 2"], side: int
) -> Float[Tensor, "batch joints 2"]:
    """Crop coordinates whose pixels are cut to whole numbers, counted from one."""
    pixels = ((places + 1) * side / 2).trunc() + 1
    return 2 * pixels / side - 1


def warped(
    images: Float[Tensor, "batch 3 height height"],
    side: int,
    angle: Float[Tensor, " batch"],
    scale: Float[Tensor, " batch"],
    flipped: Bool[Tensor, " batch"],
) -> Float[Tensor, "batch 3 side side"]:
    """Pictures turned, enlarged and then mirrored about their middle: one bilinear look-up.

    Args:
        images: Pictures, black beyond their edges.
        side: Of what is looked up.
        angle: Radians, clockwise.
        scale: Enlargement.
        flipped: Which are mirrored.
    """
    inverse = _plane(angle).mT / scale[:, None, None] * (side / images.shape[-1])
    sign = torch.where(flipped, -1.0, 1.0).to(inverse)
    steps = (2 * torch.arange(side, device=angle.device) + 1) / side - 1
    across, down = inverse[..., 0] * sign[:, None], inverse[..., 1]
    grid = across[:, None, None] * steps[:, None] + down[:, None, None] * steps[:, None, None]
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _plane(angle: Float[Tensor, " batch"]) -> Float[Tensor, "batch 2 2"]:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 2, 2)


def turn(sample: Sample, angle: Float[Tensor, " batch"], scale: Float[Tensor, " batch"]) -> Sample:
    """The picture turned clockwise by `angle` radians and enlarged by `scale` about its centre."""
    side = sample.images.shape[-1]
    images = warped(sample.images, side, angle, scale, torch.zeros_like(angle, dtype=torch.bool))
    return replace(turn_labels(sample, angle, scale, side), images=images)


def turn_labels(
    sample: Sample, angle: Float[Tensor, " batch"], scale: Float[Tensor, " batch"], side: int
) -> Sample:
    """Labels of a turned and enlarged crop of that side; the pictures stay."""
    rotation_2d = _plane(angle)
    rotation = torch.eye(3, device=angle.device).repeat(len(sample), 1, 1)
    rotation[:, :2, :2] = rotation_2d
    xy = (sample.keypoints_2d[..., :2] @ rotation_2d.mT) * scale[:, None, None]
    inside = (xy.abs() <= 1).all(dim=-1, keepdim=True)
    return replace(
        sample,
        keypoints_2d=torch.cat([xy, sample.keypoints_2d[..., 2:] * inside], dim=-1),
        joints=torch.cat([sample.joints[..., :3] @ rotation.mT, sample.joints[..., 3:]], dim=-1),
        global_orient=rotmat_to_rotvec(rotation @ rotvec_to_rotmat(sample.global_orient)),
        transl=(rotation @ sample.transl[..., None])[..., 0],
        intrinsics=_turned_intrinsics(sample.intrinsics, rotation_2d, scale, side),
    )


def _turned_intrinsics(
    intrinsics: Float[Tensor, "batch 3 3"],
    rotation_2d: Float[Tensor, "batch 2 2"],
    scale: Float[Tensor, " batch"],
    side: int,
) -> Float[Tensor, "batch 3 3"]:
    """Intrinsics of the turned picture: the principal point turns about its centre too."""
    found, centre = intrinsics.clone(), side / 2
    offset = (rotation_2d @ (found[:, :2, 2:] - centre))[..., 0]
    found[:, :2] *= scale[:, None, None]
    found[:, :2, 2] = centre + scale[:, None] * offset
    return found


def flip(sample: Sample, flipped: Bool[Tensor, " batch"]) -> Sample:
    """The mirror image of the rows marked in `flipped`; done twice it is the identity."""
    images = torch.where(flipped[:, None, None, None], sample.images.flip(-1), sample.images)
    return replace(flip_labels(sample, flipped, sample.images.shape[-1]), images=images)


def flip_labels(sample: Sample, flipped: Bool[Tensor, " batch"], side: int) -> Sample:
    """Labels of the rows marked in `flipped` as those of mirrored crops; the pictures stay."""

    def where(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(flipped.view(-1, *[1] * (old.dim() - 1)), new, old)

    def mirrored(points: Tensor, permutation: tuple[int, ...]) -> Tensor:
        sign = torch.ones(points.shape[-1], device=points.device)
        sign[0] = -1
        return where(points[:, list(permutation)] * sign, points)

    turned = torch.tensor([1.0, -1.0, -1.0], device=flipped.device)
    aside = torch.tensor([-1.0, 1.0, 1.0], device=flipped.device)
    intrinsics = sample.intrinsics.clone()
    intrinsics[:, 0, 2] = side - intrinsics[:, 0, 2]
    return replace(
        sample,
        keypoints_2d=mirrored(sample.keypoints_2d, EVALUATION_14.mirror),
        joints=mirrored(sample.joints, EVALUATION_14.mirror),
        global_orient=where(sample.global_orient * turned, sample.global_orient),
        body_pose=where(sample.body_pose[:, list(BODY_POSE_MIRROR)] * turned, sample.body_pose),
        transl=where(sample.transl * aside, sample.transl),
        intrinsics=where(intrinsics, sample.intrinsics),
    )
