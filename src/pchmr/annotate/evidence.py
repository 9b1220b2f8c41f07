"""From observations to what the solver sees: units, centered depth, weight zero for gaps."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.cloud import sift
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Evidence
from pchmr.annotate.residuals.depth import DEPTH_SD
from pchmr.annotate.residuals.keypoints import PIXEL_SD, REFERENCE_SIDE
from pchmr.annotate.spatial import seen_bones
from pchmr.perception.interfaces import DepthKind

GUESSED_FOCAL = 1.2  # of the longer side of the picture, about 45 degrees
GUESSED_FOCAL_SD = 0.25
SMALLEST_EXTENT = 0.1  # of the picture's height that a person is taken to fill at least
FAR_DEPTH = 4.0  # standard deviations from the median, where depth has no scale of its own
PERSON_SPREAD = 0.45  # metres; turns disparities into metres, nothing else
LEAST_DEPTHS = 3
IN_METRES: tuple[DepthKind, ...] = ("metric", "relative")
LEAST_SIGMA = 0.5  # of the usual standard deviation: nobody is believed to be surer than twice that


def gather_evidence(
    observations: Observations,
    surface_offset: Float[Tensor, " keypoints"],
    *,
    like: Tensor,
    use_depth: bool,
    use_dense: bool,
) -> Evidence:
    """Evidence of all frames on the device and in the precision of a tensor.

    Args:
        observations: As read.
        surface_offset: Metres between each of them and the skin.
        like: Its device and type are taken.
        use_depth: Whether keypoint depth and joints in space play a part.
        use_dense: Whether dense points do.
    """
    columns, (keypoints, confidence) = list(observations.reading.columns), _keypoints(observations)
    focal, focal_sd, center, keypoints = _camera(observations, keypoints)
    extent = _extent(keypoints, confidence, observations.image_size[:, 1])
    depth = _depth(observations, columns, confidence, use_depth, use_dense)
    spread = keypoint_spread(torch.from_numpy(keypoints), torch.from_numpy(confidence))[1]
    reference = focal * PERSON_SPREAD / np.maximum(spread.numpy(), 1.0)
    pixels = (extent / REFERENCE_SIDE)[:, None]
    sharpness = _sharpness(observations.keypoint_sigma, columns, PIXEL_SD * pixels)
    sigma, usual = observations.keypoint_depth_sigma, np.full_like(pixels, DEPTH_SD)
    depth_sharpness = _sharpness(sigma, columns, usual) if use_depth else None
    bones = seen_bones(observations) if use_depth else None

    def tensor(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(like)

    return Evidence(
        keypoints=torch.from_numpy(keypoints).to(like),
        confidence=torch.from_numpy(confidence).to(like),
        pixel_unit=torch.from_numpy(pixels[:, 0]).to(like),
        keypoint_sharpness=tensor(sharpness),
        depth_sharpness=tensor(depth_sharpness),
        center=torch.from_numpy(center).to(like),
        focal=torch.from_numpy(focal).to(like),
        focal_sd=torch.from_numpy(focal_sd).to(like),
        depth_kind=observations.depth_kind,
        depth_scale_sd=observations.depth_scale_sd,
        depth_reference=torch.from_numpy(reference).to(like),
        surface_offset=surface_offset,
        rays_follow_focal=observations.intrinsics is not None,
        bones=tensor(bones and bones.bones),
        bone_weight=tensor(bones and bones.bone_weight),
        bone_ends=bones and torch.from_numpy(bones.bone_ends).to(like.device),
        **{name: tensor(value) for name, value in depth.items()},
    )


def _keypoints(observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.nan_to_num(observations.table[..., :2], nan=0.0, posinf=0.0, neginf=0.0)
    return pixels, observations.confidence


def _sharpness(
    sigma: np.ndarray | None, columns: list[int], usual: np.ndarray
) -> np.ndarray | None:
    """The usual standard deviation over each keypoint's own, 1 where that is unknown."""
    if sigma is None:
        return None
    own = np.where(np.isfinite(sigma[:, columns]), sigma[:, columns], usual)
    return usual / np.maximum(own, LEAST_SIGMA * usual)


def _camera(
    observations: Observations, keypoints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Focal length, its uncertainty, center; keypoints as seen with square pixels."""
    size = observations.image_size.astype(np.float64)
    if observations.intrinsics is None:
        focal = GUESSED_FOCAL * size.max(axis=1)
        return focal, np.full(len(focal), GUESSED_FOCAL_SD), size / 2, keypoints
    camera = observations.intrinsics
    center, focal, skewed = camera[:, :2, 2], camera[:, 0, 0], camera[:, 1, 1]
    keypoints = keypoints.copy()
    stretch = (focal / skewed)[:, None]
    keypoints[..., 1] = center[:, None, 1] + (keypoints[..., 1] - center[:, None, 1]) * stretch
    return focal, np.full(len(focal), observations.focal_sd), center, keypoints


def _extent(keypoints: np.ndarray, confidence: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Longer side of the box around the observed keypoints, pixels."""
    seen = (confidence > 0)[..., None]
    low = np.where(seen, keypoints, np.inf).min(axis=1)
    high = np.where(seen, keypoints, -np.inf).max(axis=1)
    side = np.nan_to_num((high - low).max(axis=-1), neginf=0.0)
    return np.maximum(side, SMALLEST_EXTENT * height)


def _depth(
    observations: Observations,
    columns: list[int],
    confidence: np.ndarray,
    use_depth: bool,
    use_dense: bool,
) -> dict[str, np.ndarray | None]:
    """Depths about the person's mean; those that are no metres in standard deviations."""
    found: dict[str, np.ndarray | None] = {}
    metric = observations.depth_kind == "metric"
    mean: np.ndarray | None = None
    at_keypoints = observations.keypoint_depth
    at_keypoints = None if at_keypoints is None else at_keypoints[:, columns]
    if use_dense and metric and observations.points is not None:
        points, on_all_sides, near = sift(observations)
        found["rays_on_all_sides"] = on_all_sides.astype(np.float64)
        at_keypoints = near if at_keypoints is None else at_keypoints
        valid = np.isfinite(points).all(axis=-1) & (np.nan_to_num(points[..., 2]) > 0)
        z = np.where(valid, points[..., 2], 1.0)
        mean = np.where(valid.any(axis=1), _masked_mean(z, valid), np.nan)
        found["rays"] = np.where(valid[..., None], points / z[..., None], 0.0)
        found["ray_depth"] = np.where(valid, z - np.nan_to_num(mean)[:, None], 0.0)
        found["ray_confidence"] = valid.astype(np.float64)
    if use_depth and at_keypoints is not None:
        z = at_keypoints
        valid = np.isfinite(z) & (confidence > 0)
        if observations.depth_kind not in IN_METRES:
            valid &= _not_far(z, valid)
        valid &= valid.sum(axis=1, keepdims=True) >= LEAST_DEPTHS
        z = np.where(valid, z, 0.0)
        own = _masked_mean(z, valid)
        mean = own if mean is None else np.where(np.isfinite(mean), mean, own)
        centered = z - mean[:, None]
        if observations.depth_kind not in IN_METRES:
            spread = np.sqrt(_masked_mean(centered**2, valid))
            centered = centered / np.maximum(spread, 1e-9)[:, None]
        found["depth"] = np.where(valid, centered, 0.0)
        found["depth_confidence"] = np.where(valid, confidence, 0.0)
    if metric and mean is not None:
        found["depth_mean"] = np.nan_to_num(mean)
    return found


def _not_far(z: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Whether depths lie near their frame's median: one on a wall would set the person's scale."""
    kept = np.ones_like(valid)
    for row, (depths, known) in enumerate(zip(z, valid, strict=True)):
        if known.any():
            away = np.abs(np.where(known, depths, np.inf) - np.median(depths[known]))
            usual = 1.4826 * np.median(away[known])  # standard deviations of a normal
            kept[row] = away <= FAR_DEPTH * usual if usual > 0 else True
    return kept


def _masked_mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return (values * valid).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)


def keypoint_spread(
    xy: Float[Tensor, "batch points 2"], weight: Float[Tensor, "batch points"]
) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, " batch"]]:
    """Weighted center of points, and their root mean square distance from it."""
    share = weight / weight.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    center = (share[..., None] * xy).sum(dim=-2)
    square = (xy - center[..., None, :]).square().sum(dim=-1)
    return center, (share * square).sum(dim=-1).sqrt()
