"""What every reader of a data set yields: people of a part of it, column by column.

A part is what is imported in one step: a sequence, a subject, or some rows of a table. Labels are
as the set gives them; `placing.py` brings them into the frame of `Sample`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from pchmr.data.errors import InputError
from pchmr.data.photos import load_photo

SPLITS = ("train", "validation", "test")
TEXTS = ("split", "subject", "scene", "sequence", "action", "clip", "gender", "protocol")
"""Columns of text; `split` is empty where a set does not tell, `protocol` names those it is in."""
UNKNOWN_FRAME = -1
"""Of rows of a set that does not tell which pictures follow each other."""
SUFFIXES = (".jpg", ".jpeg", ".png")
"""Of pictures that a set numbers, the usual one first; in capitals too."""
Image = UInt8[ndarray, "height width 3"]
MISSING, DAMAGED_LABEL = "picture missing", "label damaged"
CENTER_TOLERANCE = 0.2
"""Share of a picture's side by which twice the principal point may miss it."""
NOT_COMPARED = "{} not compared: they are of another shape"
SPLIT_WORDS = {
    "protocol": "test",  # Human3.6M's validation files of METRO and SPIN are those of protocol 2
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
"""Words of a file's name, and the split that the first of them tells."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """People of a part of a data set, one a row; what a set does not tell is None.

    Attributes:
        texts: One array of text for each of `TEXTS`.
        frame: Number of the picture within its clip, or `UNKNOWN_FRAME`.
        pictures: Whole pictures, one a row in order, or why there is none; neighbors may be the
            same array.
        global_orient: Root rotation vectors, in the frame that `extrinsics` start from.
        body_pose: Rotation vectors.
        betas: Shape.
        transl: Metres, in the same frame.
        has_smpl: Rows whose pose and shape are known.
        intrinsics: Of the whole picture, pixels.
        extrinsics: From the frame of the labels to that of the camera; None where they are one.
        square: Centre x, y and side of the crop in pixels; rows of NaN take that of the mesh.
        joints: The 14 evaluation joints, camera frame, metres, then confidence.
        keypoints_2d: The 14 evaluation joints, pixels, then confidence.
        own_joints: 3D joints that a check compares, metres, and their names.
        own_keypoints: 2D joints that a check compares, pixels and confidence, and their names.
        size: Width and height that the pictures must have, pixels.
        size_tolerance: Share of it by which they may differ.
        most_fit_mm: A mesh whose joints are further off `joints` is not used; both about their
            mean.
        left_out: People of the part that are not rows, by reason.
        fault: What was wrong with the first damaged one; empty where none was.
    """

    texts: dict[str, ndarray]
    frame: Int[ndarray, " rows"]
    pictures: Callable[[], Iterator[Image | InputError]]
    global_orient: Float[ndarray, "rows 3"]
    body_pose: Float[ndarray, "rows 23 3"]
    betas: Float[ndarray, "rows 10"]
    transl: Float[ndarray, "rows 3"] | None = None
    has_smpl: Bool[ndarray, " rows"]
    intrinsics: Float[ndarray, "rows 3 3"] | None = None
    extrinsics: Float[ndarray, "rows 4 4"] | None = None
    square: Float[ndarray, "rows 3"] | None = None
    joints: Float[ndarray, "rows 14 4"] | None = None
    keypoints_2d: Float[ndarray, "rows 14 3"] | None = None
    own_joints: tuple[ndarray, tuple[str, ...]] | None = None
    own_keypoints: tuple[ndarray, tuple[str, ...]] | None = None
    size: Float[ndarray, "rows 2"] | None = None
    size_tolerance: float = 0.0
    most_fit_mm: float | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    fault: str = ""

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Source:
    """A part that can be read.

    Attributes:
        name: Unique in the set, and the same whenever the set is listed.
        read: Reads it.
    """

    name: str
    read: Callable[[], Part]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a set is read.

    Attributes:
        every: One of so many frames is taken; None takes the number that was published.
    """

    every: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A data set that can be imported.

    Attributes:
        about: The set in a few words.
        page: Where its licence is accepted.
        licence: What it allows, in a few words.
        tree: What the folder or file looks like.
        box: Which square a crop shows.
        finds: Whether a path looks like the set.
        sources: The parts of a path; raises `InputError` where it is not the set.
        published: Published counts: of rows by split, or of sequences by name.
        sampling: What is taken of the set's frames.
        camera: "given", or how pictures without a camera get one.
        knows_people: Whether `subject` names a person wherever they are seen; else it may name
            their sequence.
    """

    about: str
    page: str
    licence: str
    tree: str
    box: str
    finds: Callable[[Path], bool]
    sources: Callable[[Path, ReadOptions], list[Source]]
    published: dict[str, int] = field(default_factory=dict)
    sampling: str = "every frame"
    camera: str = "given"
    knows_people: bool = False


def photos(paths: Sequence[Path]) -> Callable[[], Iterator[Image | InputError]]:
    """Pictures of files, one a row; a file that comes several times in a row is read once."""

    def tried(path: Path) -> Image | InputError:
        try:
            return load_photo(path)
        except InputError as error:
            return error

    def read() -> Iterator[Image | InputError]:
        return map(lru_cache(maxsize=1)(tried), paths)

    return read


def split_of(name: str) -> str:
    """The split that a file's name tells; empty where it tells none."""
    return next((split for word, split in SPLIT_WORDS.items() if word in name.lower()), "")


def protocol_of(file: Path, split: str) -> str:
    """The protocol of the held-out rows of a file, as its name and folder tell."""
    return "3dpw" if split == "test" and "3dpw" in f"{file.parent.name} {file.stem}".lower() else ""


def listed(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by stem, whatever the case of their suffix; none where it is missing."""
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.suffix.lower() != SUFFIXES[0])
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for path in inside:
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, path)
    return found


def shown_by(path: Path) -> Path | None:
    """The picture of a name, or the same one under another suffix; None where there is none."""
    if path.is_file():
        return path
    others = (path.with_suffix(case) for s in SUFFIXES for case in (s, s.upper()))
    return next((other for other in others if other.is_file()), None)


def below(folder: Path, name: str) -> Path:
    """A file that a file of the folder names; its name may not lead out of the folder.

    Links of the owner's may: sets often lie on several disks.
    """
    plain = bool(name) and name.isprintable() and not Path(name).is_absolute()
    if not plain or ".." in Path(name).parts:
        raise InputError(f"{folder}: {name[:80]!r} lies outside of the folder, or is no name")
    return folder / name


def numbers(
    path: Path, name: str, value: Any, *shape: int | None, finite: bool = True
) -> Float[ndarray, "*shape"]:
    """Numbers of a foreign file, as float64.

    Args:
        path: Of the file, for the message.
        name: Of the entry.
        value: What the file holds.
        shape: That it must have; None for an axis of any length.
        finite: Whether every number must be.

    Raises:
        InputError: It holds anything else.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: {name} holds no numbers; get the file anew") from None
    fits = array.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise InputError(f"{path}: {name} is {array.shape}, expected {shape}; get the file anew")
    if finite and not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds values that are not finite; get the file anew")
    return array


def compared(value: Any, *shape: int | None) -> Float[ndarray, "*shape"] | None:
    """Numbers that only a check looks at; None where there are none, or of another shape."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    fits = array.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    return array if fits else None


def every_row_finite(*columns: ndarray) -> Bool[ndarray, " rows"]:
    """Rows in which all numbers of all columns are finite."""
    flat = [np.isfinite(column).reshape(len(column), -1).all(axis=1) for column in columns]
    return np.logical_and.reduce(flat)


def axes(value: Any) -> int:
    """How many axes foreign numbers have; 0 of what is no array."""
    try:
        return np.ndim(value)
    except ValueError:
        return 0


def reshaped(
    path: Path, name: str, value: Any, *shape: int, finite: bool = True
) -> Float[ndarray, "*shape"]:
    """Numbers of a foreign file however they are nested; raises as `numbers` does."""
    found = flat(path, name, value)
    if found.size != np.prod(shape):
        raise InputError(
            f"{path}: {name} holds {found.size} numbers, expected {shape}; get the file anew"
        )
    return numbers(path, name, found.reshape(shape), *shape, finite=finite)


def flat(path: Path, name: str, value: Any) -> Float[ndarray, " numbers"]:
    """All numbers of a foreign entry however they are nested; raises as `numbers` does."""
    try:
        return np.ravel(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: {name} holds no numbers; get the file anew") from None


def texts(count: int, **values: Any) -> dict[str, ndarray]:
    """One array of text for each of `TEXTS`: of given values, or one for all rows, or empty."""
    found = {}
    for name in TEXTS:
        value = values.get(name, "")
        same = isinstance(value, str)
        found[name] = np.full(count, value) if same else np.asarray(value, dtype=np.str_)
    return found


def joined(parts: Sequence[Part], order: Int[ndarray, " rows"]) -> Part:
    """Several parts as one, rows in the order given; all must hold the same columns."""
    assert len(order) == sum(len(part) for part in parts)

    def one(values: list[Any]) -> Any:
        if any(value is None for value in values):
            return None
        if isinstance(values[0], dict):
            return {name: one([value[name] for value in values]) for name in values[0]}
        if isinstance(values[0], tuple):
            return one([value[0] for value in values]), values[0][1]
        return np.concatenate(values)[order]

    left_out: dict[str, int] = {}
    for part in parts:
        for reason, count in part.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    skipped = ("pictures", "left_out", "size_tolerance", "most_fit_mm", "fault")
    columns = {
        f.name: one([getattr(part, f.name) for part in parts])
        for f in fields(Part)
        if f.name not in skipped
    }
    return Part(
        **columns,
        pictures=parts[0].pictures,
        size_tolerance=parts[0].size_tolerance,
        left_out=left_out,
    )
