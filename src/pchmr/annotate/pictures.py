"""From pictures to observations: boxes, keypoints and depth through the priors the user has."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import Start
from pchmr.annotate.limbs import limb_points, read_depth
from pchmr.annotate.observations import without_far
from pchmr.annotate.observed import ARRAYS, LEAST_SEEN, Observations
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig
from pchmr.data.crops import check_box
from pchmr.data.errors import InputError
from pchmr.data.exif import KNOWN_SD, FocalLength
from pchmr.data.photos import read_photo
from pchmr.data.videos import is_video, video_frames
from pchmr.perception import (
    DepthPrior,
    KeypointPrior,
    load_depth_prior,
    load_keypoint_prior,
)
from pchmr.perception.boxes import parse_box, whole, written
from pchmr.perception.detection import PeopleFinder, box_of, find_people, look_closer
from pchmr.perception.interfaces import (
    Box,
    DepthMap,
    Detector,
    Image,
    PersonPrior,
    PersonView,
)

MODEL_FOCAL_SD = 0.10
GUESS = "a guess"
CUT = "EXIF of a photo that was cut"


@dataclass(frozen=True)
class Glimpse:
    """What was seen of a clip.

    Attributes:
        observations: Of its frames.
        start: The HMR network's prediction of every frame, where there is one.
        focal: Where the focal length comes from: EXIF, the depth model, or a guess.
        picture: Its first frame.
        note: What a user should know about the reading; may be empty.
    """

    observations: Observations
    start: Start | None
    focal: str
    picture: Image
    note: str = ""


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
        if box is None and isinstance(keypoints, Detector):
            detector = keypoints
        elif box is None and not isinstance(keypoints, PersonPrior):
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
        photo = None if is_video(path) else read_photo(path)
        focal = None if photo is None else photo.focal
        frames = video_frames(path) if photo is None else iter([(photo.pixels, 0.0)])
        times: list[float] = []
        parts: list[Observations] = []
        starts: list[Start] = []
        first: Image | None = None
        last: Box | None = None
        for image, time in frames:
            times.append(time)
            if self.box is not None:
                check_box(self.box.bbox_xyxy, image.shape[1], image.shape[0])
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
        observations = stack(parts)
        if photo is None:
            observations = replace(observations, time_seconds=np.array(times))
        return Glimpse(
            observations,
            stack_starts(starts) if starts else None,
            _source(focal, parts[0]),
            first,
            "" if photo is None else photo.note,
        )

    def _followed(self, image: Image, last: Box | None) -> Box | None:
        """The box of the frame before, unless the person has left it."""
        own = self.detector is self.keypoint_prior
        knows = self.detector is not None and (own or isinstance(self.keypoint_prior, PersonPrior))
        if last is not None and knows and self.detector and not self.detector.shows(image, last):
            return None
        return last

    def _only_person(self, path: Path, image: Image, last: Box | None) -> Box | None:
        """The person to label, None where nobody is seen.

        Raises:
            InputError: There are several, and no frame before tells which.
        """
        boxes = find_people(image, self.keypoint_prior, self.detector)
        if len(boxes) > 1 and last is not None:
            boxes.sort(key=lambda box: float(np.linalg.norm(box.center - last.center)))
        elif len(boxes) > 1:
            text = " or ".join(map(written, boxes))
            raise InputError(f"{path}: several people were found; choose one with --bbox {text}")
        return boxes[0] if boxes else None

    def observe_image(
        self, image: Image, focal: FocalLength | None = None, box: Box | None = None
    ) -> Observations:
        """Observations of one picture.

        Args:
            image: Picture.
            focal: Where the camera told it.
            box: Where the person is; without it and without a box of the user's, whoever is most
                surely seen, or what looks most like a person.
        """
        height, width = image.shape[:2]
        prior = self.keypoint_prior
        box = self.box or box or next(iter(find_people(image, prior, self.detector)), None)
        box = box or look_closer(image, look_closer(image, whole(image), prior)[1], prior)[1]
        view = prior.look(image, box) if isinstance(prior, PersonPrior) else None
        keypoints = prior.keypoints(image, box) if view is None else view.keypoints
        keypoints = without_far(keypoints[None], np.array([[width, height]], dtype=np.float64))[0]
        found = self.depth_prior.depth(image, box) if self.depth_prior else None
        if self.depth_prior and found is not None and not np.isfinite(found.depth).any():
            raise InputError(
                f"depth prior {self.depth_prior.provenance.name} gave no finite depth: check its "
                "weights, or leave it out"
            )
        if focal is None and found is not None and found.focal_length is not None:
            focal = FocalLength(found.focal_length, MODEL_FOCAL_SD)
        camera = None
        if focal is not None:
            f = focal.pixels
            camera = np.array([[[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]]])
        return Observations(
            keypoints_2d=keypoints[None],
            keypoint_names=prior.names,
            image_size=np.array([[width, height]]),
            keypoint_sigma=None if view is None else view.sigma[None],
            intrinsics=camera,
            focal_sd=0.0 if focal is None else focal.sd,
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


def _source(focal: FocalLength | None, seen: Observations) -> str:
    """Where the focal length comes from, in words."""
    if focal is not None:
        return "EXIF" if focal.sd <= KNOWN_SD else CUT
    return GUESS if seen.intrinsics is None else "the depth model"


def unseen(observations: Observations) -> Observations:
    """The same frames, with no keypoint seen."""
    table = observations.keypoints_2d.copy()
    table[..., 2] = 0.0
    return replace(observations, keypoints_2d=table)


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
