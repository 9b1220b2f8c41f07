"""Looks at the frames of a clip one after the other, and describes the people of many at once."""

import hashlib
import time
from dataclasses import dataclass, replace

import numpy as np

from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import stack
from pchmr.annotate.sightings import Found
from pchmr.config import PredictConfig, to_json
from pchmr.data.crops import square_around
from pchmr.data.exif import FocalLength
from pchmr.inference import Person
from pchmr.perception.blazepose.prior import PRESENT
from pchmr.perception.detection import box_of
from pchmr.perception.follow import Follower, Follows
from pchmr.perception.interfaces import Box, Image
from pchmr.perception.people import PeoplePrior
from pchmr.predict.people import People
from pchmr.predict.picture import is_usable, nobody, placed, refined, seen_keypoints
from pchmr.predict.sightings import OF_PEOPLE
from pchmr.predict.tools import Tools
from pchmr.runs import file_sha256

BATCH = 32  # people fitted at once


@dataclass(frozen=True)
class Glance:
    """One frame: who was found in it, and what the networks say of them.

    Attributes:
        blank: The frame with nobody in it.
        found: Who.
        persons: What the HMR network says of each.
        observations: What the keypoint network says of each.
    """

    blank: People
    found: list[Found]
    persons: list[Person]
    observations: list[Observations]


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

    def see(self, image: Image, moment: float, previous: Glance | None) -> Glance:
        """Everybody in the next frame; see `video.Look`."""
        if self._box:
            found = self._boxed(image, previous)
        else:
            found = self._everybody(image, moment, previous)
        found = [one for one in found if is_usable(one.box, image)]
        tools = self._tools
        return Glance(
            nobody(image, tools, self._focal),
            found,
            [tools.predictor.look(image, square_around(one.box.bbox_xyxy)) for one in found],
            [tools.observed(image, one, self._focal) for one in found],
        )

    def people(self, glances: list[Glance]) -> list[People]:
        """The people of frames of one size, all fitted together: that is faster by far."""
        rows = [(frame, row) for frame, g in enumerate(glances) for row in range(len(g.found))]
        told = [glance.blank for glance in glances]
        for at in range(0, len(rows), BATCH):
            for frame, people in self._described(glances, rows[at : at + BATCH]).items():
                told[frame] = appended(told[frame], people)
        return told

    def _described(self, glances: list[Glance], rows: list[tuple[int, int]]) -> dict[int, People]:
        """Some people, by the frame."""
        tools = self._tools
        found = [glances[frame].found[row] for frame, row in rows]
        persons = [glances[frame].persons[row] for frame, row in rows]
        seen = stack([glances[frame].observations[row] for frame, row in rows])
        if tools.annotator is not None:
            told = refined(persons, tools.annotator, seen)
        else:
            width, height = seen.image_size[0].tolist()
            camera = glances[0].blank.intrinsics
            told = placed(persons, float(camera[0, 0]), width, height, tools.body)
        told["keypoints_2d"] = seen_keypoints(found, seen)
        told["bbox_xyxy"] = np.array([one.box.bbox_xyxy for one in found])
        camera = told.pop("intrinsics")
        parts: dict[int, People] = {}
        for frame in dict.fromkeys(frame for frame, _ in rows):
            mine = [at for at, (of, _) in enumerate(rows) if of == frame]
            parts[frame] = replace(
                glances[frame].blank,
                intrinsics=camera,
                track_id=np.array([rows[at][1] + 1 for at in mine]),
                **{name: values[mine] for name, values in told.items()},
            )
        return parts

    def _everybody(self, image: Image, moment: float, previous: Glance | None) -> list[Found]:
        if self._follower is None:
            return self._tools.everybody(image)
        if previous is None:
            self._follower.forget()
        return [Found(one.box, one) for one in self._follower.people(image, moment)]

    def _boxed(self, image: Image, previous: Glance | None) -> list[Found]:
        """The one person of the box, where they were last seen."""
        prior, box = self._tools.prior, self._box
        assert box is not None
        if isinstance(prior, PeoplePrior):
            seen = prior.see(image, box)
            if seen.presence < PRESENT:
                return []
            self._box = seen.box
            return [Found(seen.box, seen)]
        if previous is not None and previous.observations:
            self._box = box_of(previous.observations[0].keypoints_2d[0]) or box
        return [Found(self._box or box)]


def appended(people: People, more: People) -> People:
    """The people of one frame from two batches; the camera is that of the later."""
    of_both = ("vertices", "joints", *OF_PEOPLE, "track_id")
    pairs = {name: [getattr(people, name), getattr(more, name)] for name in of_both}
    return replace(more, **{name: np.concatenate(two) for name, two in pairs.items()})


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
