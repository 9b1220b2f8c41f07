"""From pictures to observations: boxes, keypoints and depth through the priors the user has."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.keypoints import canonical_name
from pchmr.annotate.observations import LEAST_SEEN, SEEN, Observations
from pchmr.annotate.priors import (
    KEYPOINT_PRIORS,
    DepthPrior,
    KeypointPrior,
    load_depth_prior,
    load_keypoint_prior,
)
from pchmr.annotate.priors.interfaces import Box, DepthMap, Image
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.data.photos import exif_focal_length, is_video, list_photos, load_photo, video_frames

EXIF_FOCAL_SD = 0.05
MODEL_FOCAL_SD = 0.10
NUM_POINTS = 300
LIMB_WIDTH = 0.035  # of the keypoints' extent: half the width of the strip around a limb
REACH = 0.6  # metres from the median limb depth beyond which a point is background
LIMBS = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
)  # fmt: skip


def list_clips(path: Path) -> Iterator[tuple[str, Path]]:
    """Clip names and files: a photo or a video is one clip, a folder one a photo.

    Raises:
        InputError: There is nothing to label.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: give a photo, a folder of photos or a video")
    files = list_photos(path) if path.is_dir() else [path]
    names = [file.stem for file in files]
    for file, name in zip(files, names, strict=True):
        yield (file.name if names.count(name) > 1 else name), file


@dataclass(frozen=True)
class PictureReader:
    """The priors of a run."""

    keypoint_prior: KeypointPrior
    depth_prior: DepthPrior | None
    box: Box | None

    @classmethod
    def open(cls, config: AnnotateConfig) -> "PictureReader":
        """Loads the priors that the config names.

        Raises:
            SettingError: No keypoint prior, missing weights, or a box that is none.
        """
        if config.keypoint_prior is None or config.keypoint_weights is None:
            raise SettingError(
                "images need a keypoint model: give --keypoint-prior "
                f"({', '.join(KEYPOINT_PRIORS)}) with --keypoint-weights, or --observations"
            )
        depth = None
        if config.depth_prior is not None and config.depth_weights is not None:
            depth = load_depth_prior(config.depth_prior, config.depth_weights)
        keypoints = load_keypoint_prior(config.keypoint_prior, config.keypoint_weights)
        return cls(keypoints, depth, parse_box(config.bbox))

    @property
    def provenance(self) -> dict[str, Any]:
        """Which models, which weights, under which licence."""
        found = {"keypoints": asdict(self.keypoint_prior.provenance)}
        if self.depth_prior is not None:
            found["depth"] = asdict(self.depth_prior.provenance)
        return found

    def observe(self, path: Path) -> Observations:
        """Observations of a photo, or of every frame of a video.

        Raises:
            InputError: The file cannot be read, or shows no person.
        """
        video = is_video(path)
        focal = None if video else exif_focal_length(path)
        frames = video_frames(path) if video else iter([load_photo(path)])
        parts = [self.observe_image(image, focal) for image in frames]
        if not any(part.num_seen[0] >= LEAST_SEEN for part in parts):
            raise InputError(f"{path}: no person was found; give --bbox x,y,w,h around one")
        return stack(parts)

    def observe_image(self, image: Image, focal: float | None = None) -> Observations:
        """Observations of one picture; `focal` in pixels where the camera told it."""
        height, width = image.shape[:2]
        box = self.box or Box(x=0.0, y=0.0, width=float(width), height=float(height))
        keypoints = self.keypoint_prior.keypoints(image, box)
        found = self.depth_prior.depth(image, box) if self.depth_prior else None
        sd = EXIF_FOCAL_SD
        if focal is None and found is not None and found.focal_length is not None:
            focal, sd = found.focal_length, MODEL_FOCAL_SD
        camera = None
        if focal is not None:
            camera = np.array([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]])
        depth = points = None
        if found is not None:
            depth = read_depth(found, keypoints)[None]
            if found.kind == "metric" and camera is not None:
                points = limb_points(found, keypoints, self.keypoint_prior.names, camera[0])[None]
        return Observations(
            keypoints_2d=keypoints[None],
            keypoint_names=self.keypoint_prior.names,
            image_size=np.array([[width, height]]),
            intrinsics=camera,
            focal_sd=sd if camera is not None else 0.0,
            keypoint_depth=depth,
            points=points,
            depth_kind=found.kind if found is not None else "metric",
        )


def parse_box(text: str | None) -> Box | None:
    """A box from `x,y,w,h`.

    Raises:
        SettingError: It is no box.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
        sound = width > 0 and height > 0
    except ValueError:
        sound = False
        x = y = width = height = 0.0
    if not sound:
        raise SettingError(f"--bbox {text}: expected x,y,w,h in pixels with positive w and h")
    return Box(x=x, y=y, width=width, height=height)


def read_depth(
    found: DepthMap, keypoints: Float[ndarray, "keypoints 3"]
) -> Float[ndarray, " keypoints"]:
    """Depth at the pixel of each keypoint; NaN outside the picture."""
    height, width = found.depth.shape
    x, y = (np.floor(np.nan_to_num(keypoints[:, axis], nan=-1.0)).astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    value = found.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside, value, np.nan)


def limb_mask(
    keypoints: Float[ndarray, "keypoints 3"], names: tuple[str, ...], shape: tuple[int, int]
) -> Bool[ndarray, "height width"]:
    """Pixels in narrow strips around the limbs that were seen: surely the person."""
    own = {canonical_name(name): row for row, name in enumerate(names)}
    seen = keypoints[np.nan_to_num(keypoints[:, 2]) > SEEN, :2]
    mask = np.zeros(shape, dtype=bool)
    if not len(seen):
        return mask
    radius = LIMB_WIDTH * float(np.ptp(seen, axis=0).max())
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for first, second in LIMBS:
        if first not in own or second not in own:
            continue
        a, b = keypoints[own[first]], keypoints[own[second]]
        if min(np.nan_to_num(a[2]), np.nan_to_num(b[2])) <= SEEN:
            continue
        along = b[:2] - a[:2]
        t = ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-9)
        t = np.clip(t, 0, 1)
        mask |= np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1]) < radius
    return mask


def limb_points(
    found: DepthMap,
    keypoints: Float[ndarray, "keypoints 3"],
    names: tuple[str, ...],
    camera: Float[ndarray, "3 3"],
) -> Float[ndarray, "points 3"]:
    """Points of the visible surface along the limbs, metres, padded with NaN."""
    out = np.full((NUM_POINTS, 3), np.nan)
    mask = limb_mask(keypoints, names, found.depth.shape) & np.isfinite(found.depth)
    y, x = np.nonzero(mask)
    z = found.depth[y, x]
    near = np.abs(z - np.median(z)) < REACH if len(z) else np.zeros(0, dtype=bool)
    y, x, z = y[near], x[near], z[near]
    if not len(z):
        return out
    pick = np.linspace(0, len(z) - 1, min(NUM_POINTS, len(z))).astype(int)
    pixel = np.stack([x[pick], y[pick]], axis=-1) + 0.5
    plane = (pixel - camera[:2, 2]) / camera[[0, 1], [0, 1]]
    out[: len(pick)] = np.concatenate([plane, np.ones((len(pick), 1))], axis=-1) * z[pick, None]
    return out


def stack(parts: list[Observations]) -> Observations:
    """Frames of one clip as one set of observations.

    Raises:
        InputError: Frames differ in what was observed.
    """
    first = parts[0]
    arrays: dict[str, Any] = {}
    for name in ("keypoints_2d", "image_size", "intrinsics", "keypoint_depth", "points"):
        values = [getattr(part, name) for part in parts]
        if any((value is None) != (values[0] is None) for value in values):
            raise InputError(f"frames differ: some have {name} and some have not")
        arrays[name] = None if values[0] is None else np.concatenate(values)
    return Observations(
        keypoint_names=first.keypoint_names,
        focal_sd=first.focal_sd,
        depth_kind=first.depth_kind,
        **arrays,
    )
