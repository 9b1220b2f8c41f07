"""Label archives beside pictures, as SPIN and BEDLAM write them (.npz; no pickled objects).

SPIN: `imgname, center, scale` with `part` (24 joints), `S` (24 joints in 3D), `pose`, `shape`;
BEDLAM: `pose_cam, shape, trans_cam, cam_int, gender`, and `cam_ext` whose shift is added. What an
archive lacks is unknown, not zero.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.body.files import BodyFileError, gender_name
from pchmr.body.joints import METRO_24, METRO_TO_EVALUATION
from pchmr.data.errors import InputError
from pchmr.data.sets.metro import H36M_KEY
from pchmr.data.sets.part import (
    CENTER_TOLERANCE,
    DAMAGED_LABEL,
    MISSING,
    UNKNOWN_FRAME,
    Part,
    Reader,
    ReadOptions,
    Source,
    below,
    every_row_finite,
    numbers,
    photos,
    protocol_of,
    shown_by,
    split_of,
    texts,
)
from pchmr.door import FileError
from pchmr.door.archives import opened_archive
from pchmr.door.arrays import read_arrays
from pchmr.door.limits import GIB

BLOCK = 512
KEYS = (
    "imgname", "center", "scale", "part", "S", "pose", "pose_cam", "shape", "has_smpl",
    "trans_cam", "cam_ext", "cam_int", "gender",
)  # fmt: skip
NUMBERS = tuple(key for key in KEYS if key not in ("imgname", "gender"))
ARCHIVE_BYTES = 8 * GIB
SMPL_POSE, SMPLX_POSE = 72, 165
OPENPOSE = 25
ROOTED = re.compile(r"/|[A-Za-z]:/")


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """Blocks of rows of an archive, or of every archive of a folder.

    Scenes of several archives stay apart by the names of these.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .npz: give the archive, or the folder that holds it")
    every, several = options.every or 1, len(files) > 1
    return [
        source
        for file in files
        for source in _blocks(file, every, f"{file.stem}/" if several else "")
    ]


@dataclass(frozen=True)
class Archive:
    """The arrays of an archive.

    Attributes:
        file: Where it lies.
        arrays: By name.
        root: Start of the pictures' names that stands for the folder of the file.
        prefix: Stands before the names of its scenes.
    """

    file: Path
    arrays: Mapping[str, np.ndarray]
    root: str
    prefix: str

    def names(self, rows: np.ndarray) -> list[str]:
        """Names of pictures, below the folder."""
        found = [_text(name) for name in self.arrays["imgname"][rows].tolist()]
        return [name.replace("\\", "/").removeprefix(self.root) for name in found]

    def own(self, key: str, rows: np.ndarray, *shape: int | None) -> np.ndarray | None:
        """Numbers of some rows; None where the archive lacks them."""
        if key not in self.arrays:
            return None
        return numbers(self.file, key, self.arrays[key][rows], len(rows), *shape)

    def is_sound(self, rows: np.ndarray) -> np.ndarray:
        """Rows whose numbers are all finite."""
        numeric = [self.arrays[key] for key in NUMBERS if key in self.arrays]
        if any(array.dtype.kind not in "fiub" for array in numeric):
            raise InputError(f"{self.file} holds text where numbers belong: get it anew")
        return every_row_finite(*(array[rows] for array in numeric))


def _blocks(file: Path, every: int, prefix: str) -> list[Source]:
    arrays = _arrays(file)
    archive = Archive(file, arrays, _root(file.parent, arrays["imgname"]), prefix)
    rows = np.arange(0, len(arrays["imgname"]), every)
    return [
        Source(f"{file.stem} {start}", partial(_read, archive, rows[start : start + BLOCK]))
        for start in range(0, len(rows), BLOCK)
    ]


def _root(folder: Path, names: np.ndarray) -> str:
    """What names that start at the root of another machine begin with, up to this folder.

    Told by the first such name whose end is a picture below the folder.
    """
    texts_of = (_text(name).replace("\\", "/") for name in names[:BLOCK].tolist())
    for name in texts_of:
        words = name.split("/")
        for count in range(1, len(words) if ROOTED.match(name) else 0):
            rest = "/".join(words[count:])
            if rest and shown_by(below(folder, rest)) is not None:
                return "/".join(words[:count]) + "/"
    return ""


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        found = read_arrays(file, KEYS, most_bytes=ARCHIVE_BYTES)
    except FileError as error:
        cure = "; save it anew with plain arrays (text as str, no object arrays)"
        raise InputError(f"{error}{cure if 'objects' in error.reason else ''}") from None
    missing = [key for key in KEYS[:3] if key not in found]
    if missing or found["imgname"].ndim != 1 or found["imgname"].dtype.kind not in "US":
        what = ", ".join(missing) or "imgname as text"
        raise InputError(f"{file} lacks {what}: give labels as SPIN or BEDLAM write them")
    if found.get("cam_int", np.zeros(0)).shape == (3, 3):
        found["cam_int"] = np.broadcast_to(found["cam_int"], (len(found["imgname"]), 3, 3))
    lengths = {len(array) if array.ndim else -1 for array in found.values()}
    if lengths != {len(found["imgname"])}:
        raise InputError(f"{file} holds arrays of other lengths: get it anew")
    return found


def _read(archive: Archive, rows: np.ndarray) -> Part:
    file, arrays = archive.file, archive.arrays
    pictures = [shown_by(below(file.parent, name)) for name in archive.names(rows)]
    there = np.array([picture is not None for picture in pictures], dtype=bool)
    sound = archive.is_sound(rows)
    kept = rows[there & sound]
    count = len(kept)
    pose = _pose(archive, kept)
    shape = archive.own("shape", kept, None)
    has_smpl = np.full(count, pose is not None and shape is not None)
    if "has_smpl" in arrays:
        has_smpl &= numbers(file, "has_smpl", arrays["has_smpl"][kept], count) > 0
    scale = numbers(file, "scale", arrays["scale"][kept].reshape(count), count)
    transl, intrinsics = archive.own("trans_cam", kept, 3), archive.own("cam_int", kept, 3, 3)
    shift = archive.own("cam_ext", kept, 4, 4)
    if transl is not None and shift is not None:
        transl = transl + shift[:, :3, 3]
    has_camera = transl is not None and intrinsics is not None
    whole = np.zeros((count, 72)) if pose is None else pose
    return Part(
        texts=_texts(archive, kept),
        frame=np.full(count, UNKNOWN_FRAME),
        pictures=photos([p for p, ok in zip(pictures, sound, strict=True) if p and ok]),
        global_orient=whole[:, :3],
        body_pose=whole[:, 3:].reshape(-1, 23, 3),
        betas=_shape(file, shape, count),
        transl=transl if has_camera else None,
        has_smpl=has_smpl,
        intrinsics=intrinsics if has_camera else None,
        square=np.column_stack(
            [numbers(file, "center", arrays["center"][kept], count, 2), 200 * scale]
        ),
        joints=_joints(file, "S", archive.own("S", kept, None, None), 3),
        keypoints_2d=_joints(file, "part", archive.own("part", kept, None, None), 2),
        size=None if intrinsics is None else 2 * intrinsics[:, :2, 2],
        size_tolerance=CENTER_TOLERANCE,
        left_out={MISSING: int((~there).sum()), DAMAGED_LABEL: int((there & ~sound).sum())},
        fault="" if sound.all() else f"{file} row {rows[~sound][0]} holds values not finite",
    )


def _pose(archive: Archive, rows: np.ndarray) -> np.ndarray | None:
    """24 rotation vectors a row, however they are nested; None where there are none."""
    key = "pose_cam" if "pose_cam" in archive.arrays else "pose"
    if key not in archive.arrays:
        return None
    found = archive.arrays[key]
    width = int(np.prod(found.shape[1:]))
    if width != SMPL_POSE:
        cure = "get BEDLAM's SMPL ones" if width > SMPL_POSE else "get it anew"
        kind = "SMPL-X labels" if width == SMPLX_POSE else f"{width} numbers a row, expected 72"
        raise InputError(f"{archive.file}: {key} holds {kind}: {cure}")
    return numbers(archive.file, key, found[rows].reshape(len(rows), width), len(rows), width)


def _shape(file: Path, value: np.ndarray | None, count: int) -> np.ndarray:
    """The first ten coefficients, zeros where nothing is known."""
    if value is None:
        return np.zeros((count, 10))
    if value.shape[1] < 10:
        raise InputError(f"{file}: shape has {value.shape[1]} numbers a row, expected 10")
    return value[:, :10]


def _joints(file: Path, key: str, values: np.ndarray | None, axes: int) -> np.ndarray | None:
    """The 14 joints of 24, confidence behind their axes; without one, all are sure.

    SPIN's 49 are OpenPose's 25 and then these.
    """
    if values is None:
        return None
    if values.shape[1] == OPENPOSE + len(METRO_24):
        values = values[:, OPENPOSE:]
    if values.shape[1] != len(METRO_24) or values.shape[2] not in (axes, axes + 1):
        raise InputError(f"{file}: {key} is {values.shape}, expected 24 joints of {axes + 1}")
    found = values[:, list(METRO_TO_EVALUATION)]
    if found.shape[2] == axes:
        return np.concatenate([found, np.ones_like(found[..., :1])], axis=-1)
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _texts(archive: Archive, rows: np.ndarray) -> dict[str, np.ndarray]:
    stem, names = archive.file.stem, archive.names(rows)
    split = split_of(stem)
    matches = [H36M_KEY.search(name) for name in names]
    folders = [archive.prefix + (name.rsplit("/", 1)[0] if "/" in name else stem) for name in names]
    pairs = list(zip(matches, folders, strict=True))
    scene = [match[3] if match else folder for match, folder in pairs]
    return texts(
        len(names),
        split=split,
        subject=[match[1] if match else folder for match, folder in pairs],
        scene=scene,
        sequence=scene,
        action=[match[2] if match else "" for match in matches],
        clip=[f"{stem} {folder}" for folder in folders],
        gender=_genders(archive, rows) or "neutral",
        protocol=protocol_of(archive.file, split),
    )


def _genders(archive: Archive, rows: np.ndarray) -> list[str]:
    if "gender" not in archive.arrays:
        return []
    labels = archive.arrays["gender"][rows]
    if labels.dtype.kind == "f":
        labels = np.nan_to_num(labels, nan=-1).astype(np.int64)
    try:
        return [gender_name(label) for label in labels.tolist()]
    except BodyFileError as error:
        raise InputError(f"{archive.file}: {error}") from None


def _finds(path: Path) -> bool:
    """Whether a file is an archive with the columns that every such archive has."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    with opened_archive(path, ARCHIVE_BYTES) as members:
        return {f"{name}.npy" for name in KEYS[:3]} <= set(members)


SPIN_NPZ = Reader(
    about="label archives of SPIN and BEDLAM beside their pictures",
    page="github.com/nkolot/SPIN, bedlam.is.tue.mpg.de",
    licence="that of the pictures; do not pass on",
    tree="LABELS.npz with the pictures that `imgname` names below its folder",
    box="the labeled center and scale",
    finds=_finds,
    sources=sources,
    camera="given, else assumed: 5000 px at a crop of 224, as SPIN does",
)
