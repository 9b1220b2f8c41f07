"""From pictures to observations: boxes, keypoints and depth through the priors the user has."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.deposer import Start
from pchmr.annotate.keypoints import canonical_name
from pchmr.annotate.observations import ARRAYS, LEAST_SEEN, SEEN, Observations, without_far
from pchmr.annotate.priors import (
    DepthPrior,
    KeypointPrior,
    load_depth_prior,
    load_keypoint_prior,
)
from pchmr.annotate.priors.embedded import box_of, find
from pchmr.annotate.priors.interfaces import Box, DepthMap, Image, PersonPrior, PersonView
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.data.photos import exif_focal_length, is_video, list_photos, load_photo, video_frames

EXIF_FOCAL_SD = 0.05
MODEL_FOCAL_SD = 0.10
GUESS = "a guess"
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
    while repeated := {name for name, times in Counter(names).items() if times > 1}:
        pairs = zip(files, names, strict=True)
        names = [file.name if name in repeated else name for file, name in pairs]
    yield from zip(names, files, strict=True)


@dataclass(frozen=True)
class Glimpse:
    """What was seen of a clip.

    Attributes:
        observations: Of its frames.
        start: The HMR network's prediction of every frame, where there is one.
        focal: Where the focal length comes from: EXIF, the depth model, or a guess.
        picture: Its first frame.
    """

    observations: Observations
    start: Start | None
    focal: str
    picture: Image


@dataclass(frozen=True)
class PictureReader:
    """The priors of a run.

    Attributes:
        keypoint_prior: Finds keypoints, and the person where no box is given.
        depth_prior: Depth, in place of what the keypoint prior says of it.
        box: The user's.
        starts: Network whose prediction is one more start.
    """

    keypoint_prior: KeypointPrior
    depth_prior: DepthPrior | None = None
    box: Box | None = None
    starts: HmrStarts | None = None

    @classmethod
    def open(cls, config: AnnotateConfig, body: BodyModel) -> "PictureReader":
        """Loads the priors that the config names, and the HMR network that fits the body.

        Raises:
            SettingError: Missing weights, or a box that is none.
        """
        depth = None
        if config.depth_prior is not None and config.depth_weights is not None:
            depth = load_depth_prior(config.depth_prior, config.depth_weights)
        name = config.keypoint_prior or "embedded"
        keypoints = load_keypoint_prior(name, config.keypoint_weights)
        starts = None
        if config.body is None or config.checkpoint is not None:
            starts = HmrStarts.open(body, config.checkpoint)
        return cls(keypoints, depth, parse_box(config.bbox), starts)

    @property
    def source(self) -> str:
        """Names of the priors that speak of the person; see `Labeler`."""
        priors = (self.keypoint_prior, self.depth_prior)
        return "+".join(prior.provenance.name for prior in priors if prior is not None)

    @property
    def provenance(self) -> dict[str, Any]:
        """Which models, which weights, under which licence."""
        found = {"keypoints": asdict(self.keypoint_prior.provenance)}
        if self.depth_prior is not None:
            found["depth"] = asdict(self.depth_prior.provenance)
        if self.starts is not None:
            found["start"] = self.starts.provenance
        return found

    def observe(self, path: Path) -> Glimpse:
        """What is seen in a photo, or in every frame of a video.

        Raises:
            InputError: The file cannot be read, or shows no person.
        """
        video = is_video(path)
        focal = None if video else exif_focal_length(path)
        frames = video_frames(path) if video else iter([load_photo(path)])
        parts: list[Observations] = []
        starts: list[Start] = []
        first: Image | None = None
        for image in frames:
            self._check_box(path, image)
            first = image if first is None else first
            last = box_of(parts[-1].keypoints_2d[0]) if parts and self.box is None else None
            box = self.box or last or self._only_person(path, image)
            parts.append(self.observe_image(image, focal, box))
            if self.starts is not None:
                starts.append(self.starts.start(image, box))
        assert first is not None
        if not any(part.num_seen[0] >= LEAST_SEEN for part in parts):
            raise InputError(f"{path}: no person was found; give --bbox x,y,w,h around one")
        known = GUESS if parts[0].intrinsics is None else "the depth model"
        source = known if focal is None else "EXIF"
        return Glimpse(stack(parts), stack_starts(starts) if starts else None, source, first)

    def _check_box(self, path: Path, image: Image) -> None:
        box, (height, width) = self.box, image.shape[:2]
        if box is None:
            return
        across = min(box.x + box.width, width) - max(box.x, 0)
        down = min(box.y + box.height, height) - max(box.y, 0)
        if across <= 0 or down <= 0:
            raise InputError(
                f"{path}: --bbox lies outside the picture of {width} x {height} pixels: give x,y "
                "of its upper left corner, then w,h"
            )

    def _only_person(self, path: Path, image: Image) -> Box:
        boxes = find(self.keypoint_prior, image)
        if len(boxes) > 1:
            text = " or ".join(f"{b.x:.0f},{b.y:.0f},{b.width:.0f},{b.height:.0f}" for b in boxes)
            raise InputError(f"{path}: several people were found; choose one with --bbox {text}")
        return boxes[0]

    def observe_image(
        self, image: Image, focal: float | None = None, box: Box | None = None
    ) -> Observations:
        """Observations of one picture.

        Args:
            image: Picture.
            focal: Pixels, where the camera told it.
            box: Where the person probably is, for instance in the frame before; without it and
                without a box of the user's the person is looked for.
        """
        height, width = image.shape[:2]
        prior = self.keypoint_prior
        box = self.box or box or find(prior, image)[0]
        view = prior.look(image, box) if isinstance(prior, PersonPrior) else None
        keypoints = prior.keypoints(image, box) if view is None else view.keypoints
        keypoints = without_far(keypoints[None], np.array([[width, height]], dtype=np.float64))[0]
        found = self.depth_prior.depth(image, box) if self.depth_prior else None
        if self.depth_prior and found is not None and not np.isfinite(found.depth).any():
            raise InputError(
                f"depth prior {self.depth_prior.provenance.name} gave no finite depth: check its "
                "weights, or leave it out"
            )
        sd = EXIF_FOCAL_SD
        if focal is None and found is not None and found.focal_length is not None:
            focal, sd = found.focal_length, MODEL_FOCAL_SD
        camera = None
        if focal is not None:
            camera = np.array([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]])
        return Observations(
            keypoints_2d=keypoints[None],
            keypoint_names=prior.names,
            image_size=np.array([[width, height]]),
            keypoint_sigma=None if view is None else view.sigma[None],
            intrinsics=camera,
            focal_sd=sd if camera is not None else 0.0,
            **self._depth(found, view, keypoints, camera),
        )

    def _depth(
        self,
        found: DepthMap | None,
        view: PersonView | None,
        keypoints: Float[ndarray, "keypoints 3"],
        camera: Float[ndarray, "1 3 3"] | None,
    ) -> dict[str, Any]:
        """What is known of depth: a depth model's word, else that of the keypoint prior."""
        if found is None:
            if view is None:
                return {}
            sigma = view.depth_sigma[None]
            depth = {"keypoint_depth": view.depth[None], "keypoint_depth_sigma": sigma}
            return {**depth, "depth_kind": "relative"}
        points = None
        if found.kind == "metric" and camera is not None:
            points = limb_points(found, keypoints, self.keypoint_prior.names, camera[0])[None]
        depth = read_depth(found, keypoints)[None]
        return {"keypoint_depth": depth, "points": points, "depth_kind": found.kind}


def parse_box(text: str | None) -> Box | None:
    """A box from `x,y,w,h`.

    Raises:
        SettingError: It is no box.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
        sound = width > 0 and height > 0 and bool(np.isfinite([x, y, width, height]).all())
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
    for name in ARRAYS:
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
