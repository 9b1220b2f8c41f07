"""EMDB: one person before a moving phone, electromagnetic sensors (Kaufmann et al. 2023).

SMPL parameters in a world frame and a camera a frame, so world trajectories can be scored. All of
it is held out; `emdb1` and `emdb2` say which sequences a protocol takes.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.body.files import gender_name
from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.sets.part import (
    MISSING,
    NOT_COMPARED,
    Part,
    Reader,
    ReadOptions,
    Source,
    axes,
    compared,
    every_row_finite,
    flat,
    listed,
    numbers,
    photos,
    reshaped,
    texts,
)
from pchmr.door.pickled import read_pickled

NEEDED = ("smpl", "camera", "good_frames_mask", "gender")
KEYS = (*NEEDED, "bboxes", "kp2d", "emdb1", "emdb2")
PROTOCOLS = ("emdb1", "emdb2")
Named = tuple[np.ndarray, tuple[str, ...]]


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("P[0-9]*/*/*_data.pkl"))


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """A part for each sequence."""
    files = _files(path)
    if not files:
        raise InputError(f"{path} holds no P0..P9/SEQUENCE/*_data.pkl: give EMDB's own folder")
    return [
        Source(f"{f.parts[-3]}/{f.parts[-2]}", lambda f=f: _read(f, options.every or 1))
        for f in files
    ]


def _read(file: Path, every: int) -> Part:
    found = read_pickled(file, KEYS)
    missing = [key for key in NEEDED if key not in found]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}: get the file anew")
    pose = _entry(file, found["smpl"], "smpl", "poses_body", None, 69, finite=False)
    count = len(pose)
    root = _entry(file, found["smpl"], "smpl", "poses_root", count, 3, finite=False)
    transl = _entry(file, found["smpl"], "smpl", "trans", count, 3, finite=False)
    betas = _betas(file, found["smpl"], count)
    intrinsics = _entry(file, found["camera"], "camera", "intrinsics", 3, 3)
    extrinsics = _entry(file, found["camera"], "camera", "extrinsics", count, 4, 4, finite=False)
    good = numbers(file, "good_frames_mask", found["good_frames_mask"], count) > 0
    good &= every_row_finite(pose, root, transl, extrinsics)
    pictures = _pictures(file, count)
    there = np.array([picture is not None for picture in pictures], dtype=bool)
    rows = np.flatnonzero(good & there & (np.arange(count) % every == 0))
    seen, unfit = _keypoints(found.get("kp2d"), count, rows)
    subject, sequence = file.parts[-3], file.parts[-2]
    named = f"{subject}/{sequence}"
    return Part(
        texts=texts(
            len(rows),
            split="test",
            subject=subject,
            scene=named,
            sequence=named,
            action=re.sub(r"^\d+_", "", sequence),
            clip=named,
            gender=gender_name(found["gender"]),
            protocol=" ".join(name for name in PROTOCOLS if found.get(name)),
        ),
        frame=rows,
        pictures=photos([path for path in (pictures[row] for row in rows) if path]),
        global_orient=root[rows],
        body_pose=pose[rows].reshape(-1, 23, 3),
        betas=betas[rows],
        transl=transl[rows],
        has_smpl=np.ones(len(rows), dtype=bool),
        intrinsics=np.broadcast_to(intrinsics, (len(rows), 3, 3)),
        extrinsics=extrinsics[rows],
        square=_squares(file, found.get("bboxes"), count)[rows],
        own_keypoints=seen,
        size=_sizes(file, found["camera"], len(rows)),
        left_out={
            NOT_COMPARED.format("kp2d"): unfit,
            "frame not good": int((~good).sum()),
            MISSING: int((good & ~there).sum()),
        },
    )


def _entry(
    file: Path, group: Any, named: str, key: str, *shape: int | None, finite: bool = True
) -> np.ndarray:
    if not isinstance(group, dict) or key not in group:
        raise InputError(f"{file}: {named} lacks {key}; get the file anew")
    return numbers(file, f"{named}.{key}", group[key], *shape, finite=finite)


def _betas(file: Path, group: Any, count: int) -> np.ndarray:
    """Shape of every frame: one for all, or one a frame."""
    found = group.get("betas") if isinstance(group, dict) else None
    if found is not None and axes(found) == 2 and len(found) == count > 1:
        return numbers(file, "smpl.betas", found, count, 10)
    return np.broadcast_to(reshaped(file, "smpl.betas", found, 10), (count, 10))


def _pictures(file: Path, count: int) -> list[Path | None]:
    """The picture of every frame; None where it is not on disk."""
    found = listed(file.parent / "images")
    return [found.get(f"{number:05d}") for number in range(count)]


def _keypoints(given: Any, count: int, rows: np.ndarray) -> tuple[Named | None, int]:
    """The set's own 2D joints, all of them sure; and how many rows have some of another shape."""
    seen = compared(given, count, len(SMPL_24), None)
    if seen is None:
        return None, 0 if given is None else len(rows)
    places = seen[rows, :, :2]
    return (np.concatenate([places, np.ones_like(places[..., :1])], axis=-1), SMPL_24.names), 0


def _sizes(file: Path, camera: Any, count: int) -> np.ndarray | None:
    """Width and height of every row's picture, where the file tells them."""
    if not isinstance(camera, dict) or not {"width", "height"} <= set(camera):
        return None
    size = [reshaped(file, name, camera[name], 1)[0] for name in ("width", "height")]
    return np.tile(size, (count, 1))


def _squares(file: Path, boxes: Any, count: int) -> np.ndarray:
    """Squares about the set's own boxes; NaN, the mesh's own, where one is not valid."""
    if boxes is None:
        return np.full((count, 3), np.nan)
    group = boxes if isinstance(boxes, dict) else {"bboxes": boxes}
    corners = _entry(file, group, "bboxes", "bboxes", count, 4, finite=False)
    size = corners[:, 2:] - corners[:, :2]
    side = 1.2 * size.max(axis=1)
    found = np.column_stack([(corners[:, :2] + corners[:, 2:]) / 2, side])
    found[~(size > 0).all(axis=1)] = np.nan
    invalid = group.get("invalid_idxs")
    invalid = [] if invalid is None else flat(file, "bboxes.invalid_idxs", invalid)
    found[np.isin(np.arange(count), invalid)] = np.nan
    return found


EMDB = Reader(
    about="EMDB: 81 sequences of 10 people, labeled by electromagnetic sensors",
    page="emdb.ait.ethz.ch",
    licence="non-commercial research; do not pass on",
    tree="P0..P9/SEQUENCE/{images/00000.jpg,P0_SEQUENCE_data.pkl}",
    box="the set's own box x 1.2, square",
    finds=lambda path: bool(_files(path)),
    sources=sources,
    knows_people=True,
    published={
        "sequences of test": 81,
        "sequences of emdb1": 17,
        "sequences of emdb2": 25,
        "subjects of test": 10,
    },
)
