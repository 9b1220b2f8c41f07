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
from pchmr.data.sets.part import Part, Reader, ReadOptions, Source, numbers, photos, texts
from pchmr.door.pickled import read_pickled

KEYS = ("smpl", "camera", "good_frames_mask", "bboxes", "kp2d", "gender", "emdb1", "emdb2")
PROTOCOLS = ("emdb1", "emdb2")


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
    missing = [key for key in KEYS[:-1] if key not in found]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}: get the file anew")
    pose = _entry(file, found["smpl"], "smpl", "poses_body", None, 69)
    count = len(pose)
    root = _entry(file, found["smpl"], "smpl", "poses_root", count, 3)
    transl = _entry(file, found["smpl"], "smpl", "trans", count, 3)
    betas = _entry(file, found["smpl"], "smpl", "betas", 10)
    intrinsics = _entry(file, found["camera"], "camera", "intrinsics", 3, 3)
    extrinsics = _entry(file, found["camera"], "camera", "extrinsics", count, 4, 4)
    good = numbers(file, "good_frames_mask", found["good_frames_mask"], count) > 0
    seen = numbers(file, "kp2d", found["kp2d"], count, len(SMPL_24), 2, finite=False)
    pictures = [file.parent / "images" / f"{number:05d}.jpg" for number in range(count)]
    there = np.array([picture.is_file() for picture in pictures], dtype=bool)
    rows = np.flatnonzero(good & there & (np.arange(count) % every == 0))
    subject, sequence = file.parts[-3], file.parts[-2]
    named = f"{subject}/{sequence}"
    sure = np.ones((len(rows), len(SMPL_24), 1))
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
        pictures=photos([pictures[row] for row in rows]),
        global_orient=root[rows],
        body_pose=pose[rows].reshape(-1, 23, 3),
        betas=np.broadcast_to(betas, (len(rows), 10)),
        transl=transl[rows],
        has_smpl=np.ones(len(rows), dtype=bool),
        intrinsics=np.broadcast_to(intrinsics, (len(rows), 3, 3)),
        extrinsics=extrinsics[rows],
        square=_squares(file, found["bboxes"], count)[rows],
        own_keypoints=(np.concatenate([seen[rows], sure], axis=-1), SMPL_24.names),
        left_out={
            "frame not good": int((~good).sum()),
            "picture missing": int((good & ~there).sum()),
        },
    )


def _entry(file: Path, group: Any, named: str, key: str, *shape: int | None) -> np.ndarray:
    if not isinstance(group, dict) or key not in group:
        raise InputError(f"{file}: {named} lacks {key}; get the file anew")
    return numbers(file, f"{named}.{key}", group[key], *shape)


def _squares(file: Path, boxes: Any, count: int) -> np.ndarray:
    """Squares about the set's own boxes; NaN, the mesh's own, where one is not valid."""
    corners = _entry(file, boxes, "bboxes", "bboxes", count, 4)
    size = corners[:, 2:] - corners[:, :2]
    side = 1.2 * size.max(axis=1)
    found = np.column_stack([(corners[:, :2] + corners[:, 2:]) / 2, side])
    found[(size <= 0).any(axis=1)] = np.nan
    return found


EMDB = Reader(
    about="EMDB: 81 sequences of 10 people, labeled by electromagnetic sensors",
    page="emdb.ait.ethz.ch",
    licence="non-commercial research; do not pass on",
    tree="P0..P9/SEQUENCE/{images/00000.jpg,P0_SEQUENCE_data.pkl}",
    box="the set's own box x 1.2, square",
    finds=lambda path: bool(_files(path)),
    sources=sources,
    published={
        "sequences of test": 81,
        "sequences of emdb1": 17,
        "sequences of emdb2": 25,
        "subjects of test": 10,
    },
)
