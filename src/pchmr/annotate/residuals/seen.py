"""What was observed, in the units of the solver; `annotate.evidence` makes it of observations."""

from dataclasses import dataclass, field, fields, replace

from jaxtyping import Float, Int
from torch import Tensor

from pchmr.perception.interfaces import DepthKind

SHARED = {"shared": True}  # a value of all frames, not one for each


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was observed of a batch of frames.

    Attributes:
        keypoints: Pixels.
        confidence: 0 where a keypoint is missing.
        pixel_unit: Pixels of the picture per reference pixel.
        center: Principal point, pixels.
        focal: Focal length at the start, pixels.
        focal_sd: Standard deviation of its logarithm; 0 holds it.
        depth: Depth of the surface seen at the keypoints, centered (and scaled, if not metric).
        depth_confidence: 0 where depth is missing.
        depth_kind: Relation of `depth` to metres.
        depth_scale_sd: Relative error of metric depth as a whole; 0 holds the person in its place.
        depth_reference: Metres; turns disparities into metres.
        depth_mean: Metres; where metric depth puts the person.
        surface_offset: How much farther each keypoint lies than the surface in front of it.
        keypoint_sharpness: `PIXEL_SD` over the keypoint's own standard deviation; None is 1.
        depth_sharpness: `DEPTH_SD` over the depth's own standard deviation; None is 1.
        rays: Directions of dense depth points, z is 1.
        ray_depth: Their depth, centered like `depth`.
        ray_confidence: 0 for padding.
        rays_on_all_sides: 1 where points also lie on sides of the body that the camera cannot see.
        rays_follow_focal: Whether rays were made from pixels with `focal`.
        bones: From one point of the body to another as seen in space, metres of a person of
            unknown size.
        bone_weight: 1 / metres; 0 where a bone is missing.
        bone_ends: The keypoints where each begins and ends.
        told_bones: The same bones of a network's mesh, metres in the camera frame.
    """

    keypoints: Float[Tensor, "batch keypoints 2"]
    confidence: Float[Tensor, "batch keypoints"]
    pixel_unit: Float[Tensor, " batch"]
    center: Float[Tensor, "batch 2"]
    focal: Float[Tensor, " batch"]
    focal_sd: Float[Tensor, " batch"]
    depth: Float[Tensor, "batch keypoints"] | None = None
    depth_confidence: Float[Tensor, "batch keypoints"] | None = None
    depth_kind: DepthKind = field(default="metric", metadata=SHARED)
    depth_scale_sd: float = field(default=0.0, metadata=SHARED)
    depth_reference: Float[Tensor, " batch"] | None = None
    depth_mean: Float[Tensor, " batch"] | None = None
    surface_offset: Float[Tensor, " keypoints"] | None = field(default=None, metadata=SHARED)
    keypoint_sharpness: Float[Tensor, "batch keypoints"] | None = None
    depth_sharpness: Float[Tensor, "batch keypoints"] | None = None
    rays: Float[Tensor, "batch rays 3"] | None = None
    ray_depth: Float[Tensor, "batch rays"] | None = None
    ray_confidence: Float[Tensor, "batch rays"] | None = None
    rays_on_all_sides: Float[Tensor, " batch"] | None = None
    rays_follow_focal: bool = field(default=True, metadata=SHARED)
    bones: Float[Tensor, "batch bones 3"] | None = None
    bone_weight: Float[Tensor, "batch bones"] | None = None
    bone_ends: Int[Tensor, "bones 2"] | None = field(default=None, metadata=SHARED)
    told_bones: Float[Tensor, "batch bones 3"] | None = None

    def __len__(self) -> int:
        return len(self.focal)

    def take(self, rows: Tensor) -> "Evidence":
        """Some frames."""
        own = [entry.name for entry in fields(self) if not entry.metadata.get("shared")]
        values = {name: getattr(self, name) for name in own}
        return replace(self, **{n: None if v is None else v[rows] for n, v in values.items()})
