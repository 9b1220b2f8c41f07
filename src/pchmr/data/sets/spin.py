"""Label archives beside pictures, as SPIN and BEDLAM write them (.npz; no pickled objects).

SPIN: `imgname, center, scale` with `part` (24 joints), `S` (24 joints in 3D), `pose`, `shape`;
BEDLAM: `pose_cam, shape, trans_cam, cam_int, gender`, and `cam_ext` whose shift is added. What an
archive lacks is unknown, not zero.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.body.files import GENDER_LABELS
from pchmr.body.joints import METRO_24, METRO_TO_EVALUATION
from pchmr.data.errors import InputError
from pchmr.data.sets.metro import H36M_KEY, SPLIT_WORDS
from pchmr.data.sets.part import (
    UNKNOWN_FRAME,
    Part,
    Reader,
    ReadOptions,
    Source,
    below,
    numbers,
    photos,
    shown_by,
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
ARCHIVE_BYTES = 8 * GIB


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """Blocks of rows of an archive, or of every archive of a folder."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .npz: give the archive, or the folder that holds it")
    return [source for file in files for source in _blocks(file, options.every or 1)]


def _blocks(file: Path, every: int) -> list[Source]:
    arrays = _arrays(file)
    count = len(arrays["imgname"])
    rows = np.arange(0, count, every)
    return [
        Source(
            f"{file.stem} {start}",
            lambda a=arrays, r=rows[start : start + BLOCK]: _read(file, a, r),
        )
        for start in range(0, len(rows), BLOCK)
    ]


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
    lengths = {len(array) if array.ndim else -1 for array in found.values()}
    if lengths != {len(found["imgname"])}:
        raise InputError(f"{file} holds arrays of other lengths: get it anew")
    return found


def _read(file: Path, arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Part:
    names = [_text(name) for name in arrays["imgname"][rows].tolist()]
    pictures = [shown_by(below(file.parent, name)) for name in names]
    there = np.array([picture is not None for picture in pictures], dtype=bool)
    kept = rows[there]
    count = len(kept)

    def own(key: str, *shape: int | None) -> np.ndarray | None:
        return numbers(file, key, arrays[key][kept], count, *shape) if key in arrays else None

    pose = own("pose_cam", None) if "pose_cam" in arrays else own("pose", None)
    shape = own("shape", None)
    has_smpl = np.full(count, pose is not None and shape is not None)
    if "has_smpl" in arrays:
        has_smpl &= numbers(file, "has_smpl", arrays["has_smpl"][kept], count) > 0
    scale = numbers(file, "scale", arrays["scale"][kept].reshape(count), count)
    transl, intrinsics = own("trans_cam", 3), own("cam_int", 3, 3)
    shift = own("cam_ext", 4, 4)
    if transl is not None and shift is not None:
        transl = transl + shift[:, :3, 3]
    has_camera = transl is not None and intrinsics is not None
    whole = _wide(file, "pose", pose, count, 72)
    return Part(
        texts=_texts(file, [n for n, ok in zip(names, there, strict=True) if ok], arrays, kept),
        frame=np.full(count, UNKNOWN_FRAME),
        pictures=photos([picture for picture in pictures if picture]),
        global_orient=whole[:, :3],
        body_pose=whole[:, 3:].reshape(-1, 23, 3),
        betas=_wide(file, "shape", shape, count, 10),
        transl=transl if has_camera else None,
        has_smpl=has_smpl,
        intrinsics=intrinsics if has_camera else None,
        square=np.column_stack(
            [numbers(file, "center", arrays["center"][kept], count, 2), 200 * scale]
        ),
        joints=_joints(file, "S", own("S", None, None), 3),
        keypoints_2d=_joints(file, "part", own("part", None, None), 2),
        left_out={"picture missing": int((~there).sum())},
    )


def _wide(file: Path, key: str, value: np.ndarray | None, count: int, width: int) -> np.ndarray:
    """The first so many numbers of each row, zeros where nothing is known."""
    if value is None:
        return np.zeros((count, width))
    if value.shape[1] < width:
        raise InputError(f"{file}: {key} has {value.shape[1]} numbers a row, expected {width}")
    return value[:, :width]


def _joints(file: Path, key: str, values: np.ndarray | None, axes: int) -> np.ndarray | None:
    """The 14 joints of 24, confidence behind their axes; without one, all are sure."""
    if values is None:
        return None
    if values.shape[1] != len(METRO_24) or values.shape[2] not in (axes, axes + 1):
        raise InputError(f"{file}: {key} is {values.shape}, expected 24 joints of {axes + 1}")
    found = values[:, list(METRO_TO_EVALUATION)]
    if found.shape[2] == axes:
        return np.concatenate([found, np.ones_like(found[..., :1])], axis=-1)
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _texts(
    file: Path, names: list[str], arrays: Mapping[str, np.ndarray], rows: np.ndarray
) -> dict[str, np.ndarray]:
    split = next((s for word, s in SPLIT_WORDS.items() if word in file.stem.lower()), "")
    matches = [H36M_KEY.search(name) for name in names]
    folders = [name.rsplit("/", 1)[0] if "/" in name else file.stem for name in names]
    genders = (
        [_text(g).lower() for g in arrays["gender"][rows].tolist()] if "gender" in arrays else []
    )
    pairs = list(zip(matches, folders, strict=True))
    scene = [match[3] if match else folder for match, folder in pairs]
    return texts(
        len(names),
        split=split,
        subject=[match[1] if match else folder for match, folder in pairs],
        scene=scene,
        sequence=scene,
        action=[match[2] if match else "" for match in matches],
        clip=[f"{file.stem} {folder}" for folder in folders],
        gender=[GENDER_LABELS.get(g, "neutral") for g in genders] or "neutral",
    )


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
