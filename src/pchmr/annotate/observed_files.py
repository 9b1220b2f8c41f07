"""A file of observations and the pictures that it is of: what `annotate --observations` opens.

Of the pictures only what is drawn on is kept, with everything but the person's surroundings gray:
whoever else they show gave no word.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pchmr.annotate.observations import check_observations, load_observations
from pchmr.annotate.observed import Observations
from pchmr.annotate.other_tools import files_of, is_json, read_tables
from pchmr.annotate.plausibility import require_plausible
from pchmr.data.errors import InputError
from pchmr.data.labels import without_bystanders
from pchmr.data.photos import read_photo
from pchmr.data.pictures import find_pictures
from pchmr.data.videos import is_video, video_frames
from pchmr.perception.interfaces import Image
from pchmr.runs import file_sha256

MOST_DRAWN = 8  # frames of a file over which labels are drawn
ROOM = 0.35  # of the person's extent that stays visible around their keypoints
CELLS = 192  # of the longer side of what is hidden


@dataclass(frozen=True, kw_only=True)
class ObservedFile:
    """Observations, and what they are of.

    Attributes:
        observations: Of all frames.
        sha256: Of everything that was read.
        notes: What a user should know of the reading.
        pictures: Some frames by number, where their pictures were given.
    """

    observations: Observations
    sha256: str
    notes: tuple[str, ...] = ()
    pictures: dict[int, Image] = field(default_factory=dict)


def read_observed(path: Path, pictures: Path | None, *, is_clip: bool) -> ObservedFile:
    """Observations of an .npz or of other tools' JSON, and their pictures.

    Args:
        path: File, or folder of JSON.
        pictures: Photo, folder of photos or video that shows the frames; None where there is none.
        is_clip: Whether the frames follow each other.

    Raises:
        InputError: Either cannot be read, or they do not belong together.
    """
    sizes = [] if pictures is None else [_size(one) for one in _images(pictures)]
    notes: tuple[str, ...] = ()
    if is_json(path):
        table = read_tables(path, sizes, is_video=is_clip)
        observations, notes = check_observations(table.arrays), table.notes
        require_plausible(observations)
    else:
        observations = load_observations(path)
    if pictures is None:
        return ObservedFile(observations=observations, sha256=_sha256(path), notes=notes)
    _require_same(observations, sizes, pictures)
    return ObservedFile(
        observations=observations,
        sha256=_sha256(path, pictures),
        notes=notes,
        pictures=_drawn(observations, pictures),
    )


def _images(path: Path) -> Iterator[Image]:
    """Pictures of a photo, of a folder of them by name, or of a video."""
    for file in find_pictures(path).files:
        if is_video(file):
            yield from (image for image, _ in video_frames(file))
        else:
            yield read_photo(file).pixels


def _size(image: Image) -> tuple[float, float]:
    return float(image.shape[1]), float(image.shape[0])


def _sha256(*paths: Path) -> str:
    """Hash of files and of the files of folders; that of a single file is its own."""
    files = [file for path in paths for file in (_listed(path) if path.is_dir() else [path])]
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("\n".join(file_sha256(file) for file in files).encode()).hexdigest()


def _listed(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.json"))
    return files_of(folder) if found else list(find_pictures(folder).files)


def _require_same(
    observations: Observations, sizes: list[tuple[float, float]], pictures: Path
) -> None:
    """Refuses pictures of another number or of other sizes than the frames."""
    if len(sizes) != len(observations):
        raise InputError(
            f"{len(observations)} frames of observations and {len(sizes)} pictures in {pictures}: "
            "give one picture a frame, in the order of their names"
        )
    for row, (size, told) in enumerate(zip(sizes, observations.image_size.tolist(), strict=True)):
        if tuple(map(round, size)) != tuple(told):
            raise InputError(
                f"frame {row} is {told[0]} x {told[1]} pixels, its picture {size[0]:.0f} x "
                f"{size[1]:.0f}: give the pictures in which the keypoints were found"
            )


def _drawn(observations: Observations, pictures: Path) -> dict[int, Image]:
    """Evenly spaced frames with a person, without their bystanders."""
    rows = np.flatnonzero(observations.num_seen)
    rows = rows[np.linspace(0, len(rows) - 1, min(MOST_DRAWN, len(rows))).round().astype(int)]
    return {
        row: _alone(observations, row, image)
        for row, image in enumerate(_images(pictures))
        if row in rows
    }


def _alone(observations: Observations, row: int, image: Image) -> UInt8[ndarray, "height width 3"]:
    """The picture with all gray that lies far from the person's keypoints."""
    xy = observations.table[row, observations.confidence[row] > 0, :2]
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = ROOM * float((high - low).max())
    step = max(image.shape[:2]) / CELLS
    y, x = (np.arange(0, side, step) + step / 2 for side in image.shape[:2])
    near_x = (x > low[0] - room) & (x < high[0] + room)
    near_y = (y > low[1] - room) & (y < high[1] + room)
    return without_bystanders(image, ~(near_y[:, None] & near_x))
