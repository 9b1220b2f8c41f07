"""Photos and videos of one's own with truth: `truth.npz` beside the pictures (see docs/data.md).

`image` names the file of each row; `frame` counts within a video. `global_orient, body_pose, betas,
transl, intrinsics` are those of `Sample`, for the whole picture and in the camera's frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pchmr.body.files import BodyFileError, gender_name
from pchmr.data.errors import InputError
from pchmr.data.sets.part import (
    MISSING,
    SPLITS,
    Image,
    Part,
    Reader,
    ReadOptions,
    Source,
    below,
    numbers,
    photos,
    texts,
)
from pchmr.data.videos import is_video, video_frames
from pchmr.door.arrays import read_arrays

TRUTH = "truth.npz"
SHAPES = {
    "global_orient": (3,),
    "body_pose": (23, 3),
    "betas": (10,),
    "transl": (3,),
    "intrinsics": (3, 3),
}
NEEDED = ("image", *SHAPES)
NAMED = ("subject", "scene", "action", "split", "gender")
KEYS = (*NEEDED, *NAMED, "frame", "bbox_xyxy")


@dataclass(frozen=True)
class Truth:
    """The arrays of a truth file, and the folder of its pictures."""

    file: Path
    arrays: dict[str, np.ndarray]

    def column(self, key: str, rows: np.ndarray, *shape: int) -> np.ndarray:
        """Numbers of some rows."""
        return numbers(self.file, key, self.arrays[key][rows], len(rows), *shape)

    def words(self, key: str, rows: np.ndarray, default: str) -> list[str]:
        """Texts of some rows."""
        if key not in self.arrays:
            return [default] * len(rows)
        return [str(word) for word in self.arrays[key][rows].tolist()]


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """A part for each picture's file: a video is read once, from its start to its end."""
    file = path / TRUTH if path.is_dir() else path
    truth = Truth(file, _arrays(file))
    names = truth.arrays["image"]
    return [
        Source(name, lambda n=name: _read(truth, n, options.every or 1))
        for name in sorted(set(names.tolist()))
    ]


def _arrays(file: Path) -> dict[str, np.ndarray]:
    found = read_arrays(file, KEYS)
    missing = [key for key in NEEDED if key not in found]
    if missing or found["image"].ndim != 1 or found["image"].dtype.kind != "U":
        what = ", ".join(missing) or "image as text"
        raise InputError(f"{file} lacks {what}: see docs/data.md for what it holds")
    if {len(array) if array.ndim else -1 for array in found.values()} != {len(found["image"])}:
        raise InputError(f"{file} holds arrays of other lengths: one entry a row")
    truth, rows = Truth(file, found), np.arange(len(found["image"]))
    for key, shape in SHAPES.items():
        truth.column(key, rows, *shape)
    _check_words(truth, rows)
    return found


def _check_words(truth: Truth, rows: np.ndarray) -> None:
    unknown = sorted(set(truth.words("split", rows, "")) - {*SPLITS, ""})
    if unknown:
        raise InputError(f"{truth.file}: split {unknown[0]!r} is none of {', '.join(SPLITS)}")
    try:
        for word in set(truth.words("gender", rows, "neutral")):
            gender_name(word)
    except BodyFileError as error:
        raise InputError(f"{truth.file}: {error}") from None


def _read(truth: Truth, name: str, every: int) -> Part:
    rows = np.flatnonzero(truth.arrays["image"] == name)
    path = below(truth.file.parent, name)
    moving, missing = is_video(path), 0 if path.is_file() else len(rows)
    rows = rows[missing:]
    frame = truth.column("frame", rows).astype(np.int64) if "frame" in truth.arrays else 0 * rows
    order = np.argsort(frame, kind="stable")
    rows, frame = rows[order], frame[order]
    if moving and every > 1:
        rows, frame = rows[frame % every == 0], frame[frame % every == 0]
    square = None
    if "bbox_xyxy" in truth.arrays:
        box = truth.column("bbox_xyxy", rows, 4)
        side = 1.2 * (box[:, 2:] - box[:, :2]).max(axis=1)
        square = np.column_stack([(box[:, :2] + box[:, 2:]) / 2, side])
    own = {key: truth.column(key, rows, *shape) for key, shape in SHAPES.items()}
    return Part(
        texts=_texts(truth, rows, path),
        frame=frame,
        pictures=(lambda: _video(path, frame)) if moving else photos([path] * len(rows)),
        global_orient=own["global_orient"],
        body_pose=own["body_pose"],
        betas=own["betas"],
        transl=own["transl"],
        has_smpl=np.ones(len(rows), dtype=bool),
        intrinsics=own["intrinsics"],
        square=square,
        left_out={MISSING: missing},
    )


def _texts(truth: Truth, rows: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    subject = truth.words("subject", rows, "")
    return texts(
        len(rows),
        split=truth.words("split", rows, ""),
        subject=subject,
        scene=truth.words("scene", rows, path.stem),
        sequence=path.stem,
        action=truth.words("action", rows, ""),
        clip=[f"{path.name} {who}".strip() for who in subject],
        gender=[gender_name(word) for word in truth.words("gender", rows, "neutral")],
    )


def _video(path: Path, frames: np.ndarray) -> Iterator[Image]:
    """The wanted frames of a video, several times where several people are labeled in one."""
    wanted = frames.tolist()
    at = 0
    for number, (image, _) in enumerate(video_frames(path)):
        while at < len(wanted) and wanted[at] == number:
            yield image
            at += 1
        if at == len(wanted):
            return
    raise InputError(f"video {path} has no frame {wanted[at]}: mend `frame` of {TRUTH}")


OWN = Reader(
    about="photos and videos of your own with truth",
    page="your own disk",
    licence="yours",
    tree=f"{TRUTH} beside the pictures and videos that it names",
    box="the given box x 1.2, else the projected mesh x 1.2, square",
    finds=lambda path: (path / TRUTH).is_file(),
    sources=sources,
    knows_people=True,
)
