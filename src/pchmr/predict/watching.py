"""Looks at the frames of a clip one after the other: who was seen is followed, then described."""

import hashlib
import time
from dataclasses import replace

from pchmr.annotate.sightings import Found
from pchmr.config import PredictConfig, to_json
from pchmr.data.exif import FocalLength
from pchmr.perception.blazepose.prior import PRESENT
from pchmr.perception.detection import box_of
from pchmr.perception.follow import Follower, Follows
from pchmr.perception.interfaces import Box, Image
from pchmr.perception.people import PeoplePrior
from pchmr.predict.people import People
from pchmr.predict.picture import described
from pchmr.predict.tools import Tools
from pchmr.runs import file_sha256


class Watcher:
    """A `Look` for a video: the detector looks only where it is needed."""

    def __init__(self, tools: Tools, focal: FocalLength | None, box: Box | None = None) -> None:
        """Begins a clip.

        Args:
            tools: What predicts.
            focal: Of the camera; without it, it is estimated.
            box: Of a person in the first frame, who alone is followed.
        """
        self._tools, self._focal, self._box = tools, focal, box
        self._follower = Follower(tools.prior) if isinstance(tools.prior, Follows) else None

    def __call__(self, image: Image, moment: float, previous: People | None) -> People:
        """Everybody in the next frame; see `video.Look`."""
        found = (
            self._boxed(image, previous) if self._box else self._everybody(image, moment, previous)
        )
        return described(image, self._tools, dict(enumerate(found, start=1)), self._focal)

    def _everybody(self, image: Image, moment: float, previous: People | None) -> list[Found]:
        if self._follower is not None:
            if previous is None:
                self._follower.forget()
            return [Found(one.box, one) for one in self._follower.people(image, moment)]
        return self._still_there(image, previous) or self._tools.everybody(image)

    def _still_there(self, image: Image, previous: People | None) -> list[Found]:
        """The boxes of the frame before in which somebody still is."""
        detector = self._tools.detector
        if previous is None or detector is None:
            return []
        boxes = [_box(corners) for corners in previous.bbox_xyxy.tolist()]
        return [Found(box) for box in boxes if detector.shows(image, box)]

    def _boxed(self, image: Image, previous: People | None) -> list[Found]:
        """The one person of the box, where they were last seen."""
        prior, box = self._tools.prior, self._box
        assert box is not None
        if isinstance(prior, PeoplePrior):
            seen = prior.see(image, box)
            if seen.presence < PRESENT:
                return []
            self._box = seen.box
            return [Found(seen.box, seen)]
        if previous is not None and len(previous.keypoints_2d):
            self._box = box_of(previous.keypoints_2d[0]) or box
        return [Found(self._box or box)]


def _box(corners: list[float]) -> Box:
    left, top, right, bottom = corners
    return Box(x=left, y=top, width=right - left, height=bottom - top)


def clip_key(config: PredictConfig, tools: Tools) -> dict[str, str]:
    """What decides the people of single frames: the video, the networks, the settings."""
    plain = PredictConfig(images=config.images)
    same = {"output": plain.output, "format": plain.format, "shape": plain.shape}
    settings = to_json(replace(config, **same, smoothing=plain.smoothing, person=plain.person))
    return {
        "run": "any"
        if config.bbox is None
        else str(time.time_ns()),  # where a box went is not kept
        "video_sha256": file_sha256(config.images),
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "prior_sha256": tools.prior.provenance.sha256,
        "body_sha256": tools.body.sha256,
        "refines": str(tools.annotator is not None),
    }
