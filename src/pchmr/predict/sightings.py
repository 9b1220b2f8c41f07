"""What single frames of a clip say of people, as rows: kept while a video is read, and on disk.

Meshes are not kept. Who is who over the frames is told by `numbered`, from the rows alone, so a run
that was cut off and goes on numbers people as one that was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pchmr.door.arrays import read_arrays
from pchmr.perception.people import LIMBS
from pchmr.perception.tracks import Tracker
from pchmr.predict.people import People
from pchmr.runs import replacing

OF_PEOPLE = ("global_orient", "body_pose", "betas", "transl", "keypoints_2d", "bbox_xyxy")


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """People of the frames of a clip, frame by frame; arrays as in `People`.

    Attributes:
        time_seconds: Of each frame.
        intrinsics: Camera of each frame.
        image_size: Width and height of each frame.
        frame: In which each person was seen, rising.
        keypoint_names: Of `keypoints_2d`; empty where no frame has told them.
    """

    time_seconds: Float[ndarray, " frames"]
    intrinsics: Float[ndarray, "frames 3 3"]
    image_size: Int[ndarray, "frames 2"]
    frame: Int[ndarray, " seen"]
    global_orient: Float[ndarray, "seen 3"]
    body_pose: Float[ndarray, "seen bones 3"]
    betas: Float[ndarray, "seen betas"]
    transl: Float[ndarray, "seen 3"]
    keypoints_2d: Float[ndarray, "seen keypoints 3"]
    bbox_xyxy: Float[ndarray, "seen 4"]
    keypoint_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time_seconds)

    def take(self, rows: Int[ndarray, " rows"]) -> dict[str, ndarray]:
        """Some of the people, by the names of `OF_PEOPLE`."""
        return {name: getattr(self, name)[rows] for name in OF_PEOPLE}


def sighting(people: People, time: float, width: int, height: int) -> Sightings:
    """One frame."""
    return Sightings(
        time_seconds=np.array([time]),
        intrinsics=people.intrinsics[None].astype(np.float64),
        image_size=np.array([[width, height]]),
        frame=np.zeros(len(people.betas), dtype=np.int64),
        keypoint_names=people.keypoint_names,
        **{name: getattr(people, name) for name in OF_PEOPLE},
    )


def joined(parts: Sequence[Sightings]) -> Sightings:
    """Parts of a clip, one after the other."""
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Sightings)
        if field.name not in ("frame", "keypoint_names")
    }
    frames = [part.frame + start for part, start in zip(parts, starts, strict=True)]
    return Sightings(frame=np.concatenate(frames), keypoint_names=parts[0].keypoint_names, **arrays)


def save(path: Path, part: Sightings) -> None:
    """Writes a part of a clip, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        arrays = {name: np.asarray(value) for name, value in vars(part).items()}
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load(path: Path) -> Sightings:
    """A part that `save` wrote.

    Raises:
        FileError: The file is damaged.
    """
    arrays = read_arrays(path)
    names = tuple(str(name) for name in arrays.pop("keypoint_names"))
    return Sightings(keypoint_names=names, **arrays)


def numbered(seen: Sightings) -> Int[ndarray, " seen"]:
    """Number of each person that was seen, from 1 on; see `Tracker`."""
    columns = [seen.keypoint_names.index(name) for name in LIMBS]
    limbs = seen.keypoints_2d[:, columns]
    tracker, numbers = Tracker(), np.zeros(len(seen.frame), dtype=np.int64)
    for frame, time in enumerate(seen.time_seconds.tolist()):
        rows = slice(*np.searchsorted(seen.frame, [frame, frame + 1]))
        numbers[rows] = tracker.update(limbs[rows], time)
    return numbers
