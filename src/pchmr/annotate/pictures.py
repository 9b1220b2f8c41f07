"""From pictures to observations: boxes, keypoints and depth through the priors the user has."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from pchmr.annotate.deposer import Start
from pchmr.annotate.limbs import limb_points, read_depth
from pchmr.annotate.observed import ARRAYS, LEAST_SEEN, Observations
from pchmr.annotate.sightings import Found, bystanders, everybody, observed
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig
from pchmr.data.crops import check_box
from pchmr.data.errors import InputError
from pchmr.data.exif import KNOWN_SD, FocalLength
from pchmr.data.photos import read_photo
from pchmr.data.videos import is_video, video_frames
from pchmr.door import Json
from pchmr.perception import (
    DepthPrior,
    KeypointPrior,
    load_depth_prior,
    load_keypoint_prior,
)
from pchmr.perception.boxes import parse_box, whole
from pchmr.perception.detection import (
    SAME_SEEN,
    PeopleFinder,
    box_of,
    find_people,
    look_closer,
    overlap,
)
from pchmr.perception.fetched import usual_prior
from pchmr.perception.interfaces import (
    Box,
    DepthMap,
    Detector,
    Image,
    PersonPrior,
)
from pchmr.perception.people import ALL, LARGEST, PeoplePrior, chosen

MODEL_FOCAL_SD = 0.10
MODEL_DEPTH_SD = 0.05  # of metric depth as a whole, as networks see it
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
        numbers: Of the person of every frame, in the picture; from 1, the surest first.
        bystanders: Cells of every frame that show somebody who is not labeled.
        is_clip: Whether the frames follow each other.
        note: What a user should know about the reading; may be empty.
    """

    observations: Observations
    start: Start | None
    focal: str
    picture: Image
    numbers: Int[ndarray, " frames"] | None = None
    bystanders: Bool[ndarray, "frames rows columns"] | None = None
    is_clip: bool = False
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
        who: Which of them is meant: "largest", a number, or "all".
    """

    keypoint_prior: KeypointPrior
    depth_prior: DepthPrior | None = None
    box: Box | None = None
    starts: HmrStarts | None = None
    detector: Detector | None = None
    who: str = LARGEST

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
        name = config.keypoint_prior or usual_prior()
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
        return cls(keypoints, depth, box, starts, detector, config.person)

    @property
    def source(self) -> str:
        """Names of the priors that speak of the person; see `Labeler`."""
        priors = (self.keypoint_prior, self.depth_prior)
        return "+".join(prior.provenance.name for prior in priors if prior is not None)

    @property
    def provenance(self) -> Json:
        """Which models, which weights, under which licence."""
        found = {"keypoints": asdict(self.keypoint_prior.provenance)}
        if self.depth_prior is not None:
            found["depth"] = asdict(self.depth_prior.provenance)
        if self.starts is not None:
            found["start"] = self.starts.provenance
        return found

    def observe(self, path: Path) -> Glimpse:
        """What is seen of the person meant in a photo, or in every frame of a video.

        With `who` all, every person of a photo is a frame of the observations.

        Raises:
            InputError: The file cannot be read, shows no person, or not the one meant.
        """
        if is_video(path):
            return self._of_video(path)
        photo = read_photo(path)
        image = photo.pixels
        people = self._people(image)
        boxes = [one.box for one in people]
        who = chosen(self.who, boxes) if self.box is None else [0]
        if not who:
            raise _nobody(path)
        parts = [self._observed(image, people[row], photo.focal) for row in who]
        if not any(part.num_seen[0] >= LEAST_SEEN for part in parts):
            raise _nobody(path)
        return Glimpse(
            stack(parts),
            self._starts(image, [people[row].box for row in who]),
            _source(photo.focal, parts[0]),
            image,
            numbers=np.array(who) + 1,
            bystanders=self._bystanders(people, who, image)[None].repeat(len(who), axis=0),
            note=photo.note,
        )

    def _of_video(self, path: Path) -> Glimpse:
        """The one person of a video, followed by where they were last."""
        if self.who == ALL:
            raise InputError(
                f"{path}: a video gives labels of one person: leave --person all out, or give "
                "--person largest or a number"
            )
        times: list[float] = []
        parts: list[Observations] = []
        starts: list[Start] = []
        masks: list[ndarray] = []
        first: Image | None = None
        last: Box | None = None
        for image, time in video_frames(path):
            times.append(time)
            first = image if first is None else first
            people = self._people(image, last)
            row = self._meant(people, last)
            found = Found(whole(image)) if row is None else people[row]
            seen = self._observed(image, found, None)
            parts.append(unseen(seen) if row is None else seen)
            last = box_of(parts[-1].keypoints_2d[0]) or last
            starts += [] if self.starts is None else [self.starts.start(image, found.box)]
            masks.append(self._bystanders(people, [] if row is None else [row], image))
        if first is None or not any(part.num_seen[0] >= LEAST_SEEN for part in parts):
            raise _nobody(path)
        return Glimpse(
            replace(stack(parts), time_seconds=np.array(times)),
            stack_starts(starts) if starts else None,
            _source(None, parts[0]),
            first,
            numbers=np.ones(len(parts), dtype=np.int64),
            bystanders=np.stack(masks),
            is_clip=True,
        )

    def _people(self, image: Image, last: Box | None = None) -> list[Found]:
        """Who may be meant: the person of the user's box, of the frame before, or everybody."""
        if self.box is not None:
            check_box(self.box.bbox_xyxy, image.shape[1], image.shape[0])
            if last is None:
                return self._with_bystanders(image, self.box)
        if last is not None and not isinstance(self.keypoint_prior, PeoplePrior):
            followed = self._followed(image, last)
            if followed is not None:
                return [Found(followed)]
        return everybody(image, self.keypoint_prior, self.detector)

    def _with_bystanders(self, image: Image, box: Box) -> list[Found]:
        """The person of a box first, then whoever else a network that sees everybody finds."""
        prior = self.keypoint_prior
        if not isinstance(prior, PeoplePrior):
            return [Found(box)]
        own = prior.see(image, box)
        others = [one for one in prior.people(image) if overlap(one.box, own.box) < SAME_SEEN]
        return [Found(one.box, one) for one in (own, *others)]

    def _followed(self, image: Image, last: Box) -> Box | None:
        """The box of the frame before, unless the person has left it."""
        knows = self.detector is not None and (
            self.detector is self.keypoint_prior or isinstance(self.keypoint_prior, PersonPrior)
        )
        if knows and self.detector and not self.detector.shows(image, last):
            return None
        return last

    def _meant(self, people: list[Found], last: Box | None) -> int | None:
        """Which of the people of a frame is the person of the video; None where none is."""
        if not people:
            return None
        if last is None:
            return 0 if self.box is not None else chosen(self.who, [one.box for one in people])[0]
        return min(
            range(len(people)),
            key=lambda row: float(np.linalg.norm(people[row].box.center - last.center)),
        )

    def _starts(self, image: Image, boxes: list[Box]) -> Start | None:
        if self.starts is None:
            return None
        return stack_starts([self.starts.start(image, box) for box in boxes])

    def _bystanders(
        self, people: list[Found], own: list[int], image: Image
    ) -> Bool[ndarray, "rows columns"]:
        """Cells that show somebody who is not labeled; none where everybody is."""
        height, width = image.shape[:2]
        shown = people if self.who != ALL else [people[row] for row in own[:1]]
        return bystanders(shown, own[0] if own and self.who != ALL else 0, width, height)

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
        prior = self.keypoint_prior
        box = self.box or box or next(iter(find_people(image, prior, self.detector)), None)
        box = box or look_closer(image, look_closer(image, whole(image), prior)[1], prior)[1]
        return self._observed(image, Found(box), focal)

    def _observed(self, image: Image, found: Found, focal: FocalLength | None) -> Observations:
        """What the keypoint prior sees, and the depth prior in place of its word on depth."""
        if self.depth_prior is None:
            return observed(image, self.keypoint_prior, found, focal)
        depth = self.depth_prior.depth(image, found.box)
        if not np.isfinite(depth.depth).any():
            raise InputError(
                f"depth prior {self.depth_prior.provenance.name} gave no finite depth: check its "
                "weights, or leave it out"
            )
        if focal is None and depth.focal_length is not None:
            focal = FocalLength(depth.focal_length, MODEL_FOCAL_SD)
        return with_depth(observed(image, self.keypoint_prior, found, focal), depth)


def with_depth(seen: Observations, found: DepthMap) -> Observations:
    """Observations of a frame with what a depth model says in place of the keypoint prior's."""
    keypoints, points = seen.keypoints_2d[0], None
    if found.kind == "metric" and seen.intrinsics is not None:
        points = limb_points(found, keypoints, seen.keypoint_names, seen.intrinsics[0])[None]
    return replace(
        seen,
        keypoint_depth=read_depth(found, keypoints)[None],
        keypoint_depth_sigma=None,
        points=points,
        depth_kind=found.kind,
        depth_scale_sd=MODEL_DEPTH_SD,
    )


def _nobody(path: Path) -> InputError:
    return InputError(f"{path}: no person was found; give --bbox x,y,w,h around one")


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
    arrays: dict[str, np.ndarray | None] = {}
    for name in ARRAYS:
        values = [getattr(part, name) for part in parts]
        if any((value is None) != (values[0] is None) for value in values):
            raise InputError(f"frames differ: some have {name} and some have not")
        arrays[name] = None if values[0] is None else np.concatenate(values)
    return Observations(
        keypoint_names=first.keypoint_names,
        focal_sd=first.focal_sd,
        depth_kind=first.depth_kind,
        depth_scale_sd=first.depth_scale_sd,
        **arrays,
    )
