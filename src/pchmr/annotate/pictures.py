"""From pictures to observations: boxes, keypoints and depth through the priors the user has."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import Start
from pchmr.annotate.limbs import limb_points, read_depth
from pchmr.annotate.observations import ARRAYS, LEAST_SEEN, Observations, without_far
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.data.photos import (
    exif_focal_length,
    frame_rate,
    is_video,
    list_photos,
    load_photo,
    video_frames,
)
from pchmr.perception import (
    DepthPrior,
    KeypointPrior,
    load_depth_prior,
    load_keypoint_prior,
)
from pchmr.perception.detection import PeopleFinder, box_of, overlap
from pchmr.perception.interfaces import (
    Box,
    DepthMap,
    Detector,
    Image,
    PersonPrior,
    PersonView,
)

EXIF_FOCAL_SD = 0.05
MODEL_FOCAL_SD = 0.10
GUESS = "a guess"
ALSO = 0.85  # of the surest person's confidence that another person needs
SAME = 0.5  # overlap of what a keypoint prior sees in two boxes from which it is one person


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
        detector: Finds people; without it a keypoint prior that can does, or nobody looks.
    """

    keypoint_prior: KeypointPrior
    depth_prior: DepthPrior | None = None
    box: Box | None = None
    starts: HmrStarts | None = None
    detector: Detector | None = None

    def __post_init__(self) -> None:
        if self.detector is None and isinstance(self.keypoint_prior, PersonPrior):
            object.__setattr__(self, "detector", PeopleFinder(self.keypoint_prior))

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
        box, detector = parse_box(config.bbox), None
        if box is None and not isinstance(keypoints, PersonPrior):
            own = load_keypoint_prior("embedded")
            detector = PeopleFinder(own) if isinstance(own, PersonPrior) else None
        return cls(keypoints, depth, box, starts, detector)

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
        last: Box | None = None
        for image in frames:
            self._check_box(path, image)
            first = image if first is None else first
            box = self.box or self._followed(image, last) or self._only_person(path, image, last)
            seen = self.observe_image(image, focal, box or whole(image))
            parts.append(seen if box else unseen(seen))
            last = box_of(parts[-1].keypoints_2d[0]) or last
            if self.starts is not None:
                starts.append(self.starts.start(image, box or whole(image)))
        assert first is not None
        if not any(part.num_seen[0] >= LEAST_SEEN for part in parts):
            raise InputError(f"{path}: no person was found; give --bbox x,y,w,h around one")
        known = GUESS if parts[0].intrinsics is None else "the depth model"
        source = known if focal is None else "EXIF"
        observations = replace(stack(parts), fps=frame_rate(path) if video else None)
        return Glimpse(observations, stack_starts(starts) if starts else None, source, first)

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

    def _followed(self, image: Image, last: Box | None) -> Box | None:
        """The box of the frame before, unless the person has left it."""
        knows = self.detector is not None and isinstance(self.keypoint_prior, PersonPrior)
        if last is not None and knows and self.detector and not self.detector.shows(image, last):
            return None
        return last

    def _only_person(self, path: Path, image: Image, last: Box | None) -> Box | None:
        """The person to label, None where nobody is seen.

        Raises:
            InputError: There are several, and no frame before tells which.
        """
        boxes = self.find(image)
        if len(boxes) > 1 and last is not None:
            boxes.sort(key=lambda box: float(np.linalg.norm(box.center - last.center)))
        elif len(boxes) > 1:
            text = " or ".join(f"{b.x:.0f},{b.y:.0f},{b.width:.0f},{b.height:.0f}" for b in boxes)
            raise InputError(f"{path}: several people were found; choose one with --bbox {text}")
        return boxes[0] if boxes else None

    def find(self, image: Image) -> list[Box]:
        """Boxes of the people in a picture, the surest first.

        What the detector finds is looked at by the keypoint prior, which has the last word where
        it is another network: who it sees less surely is not there, and where the detector sees
        nobody, it looks at the whole picture itself.
        """
        boxes = [] if self.detector is None else self.detector.detect(image)
        if isinstance(self.keypoint_prior, PersonPrior):
            return boxes
        seen = [self._closer(image, box) for box in boxes or [whole(image)]]
        most = max(sure for sure, _ in seen)
        found: list[Box] = []
        for sure, box in sorted(seen, key=lambda pair: -pair[0]):
            if sure >= ALSO * most and all(overlap(box, other) < SAME for other in found):
                found.append(box)
        return found

    def _closer(self, image: Image, box: Box) -> tuple[float, Box]:
        """How surely the keypoint prior sees someone in a box, and its own box around them."""
        keypoints = self.keypoint_prior.keypoints(image, box)
        return float(np.nan_to_num(keypoints[:, 2]).mean()), box_of(keypoints) or box

    def observe_image(
        self, image: Image, focal: float | None = None, box: Box | None = None
    ) -> Observations:
        """Observations of one picture.

        Args:
            image: Picture.
            focal: Pixels, where the camera told it.
            box: Where the person is; without it and without a box of the user's, whoever is most
                surely seen, or what looks most like a person.
        """
        height, width = image.shape[:2]
        prior = self.keypoint_prior
        box = self.box or box or next(iter(self.find(image)), None)
        box = box or self._closer(image, self._closer(image, whole(image))[1])[1]
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


def whole(image: Image) -> Box:
    """The box of the whole picture."""
    height, width = image.shape[:2]
    return Box(x=0.0, y=0.0, width=float(width), height=float(height))


def unseen(observations: Observations) -> Observations:
    """The same frames, with no keypoint seen."""
    table = observations.keypoints_2d.copy()
    table[..., 2] = 0.0
    return replace(observations, keypoints_2d=table)


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
