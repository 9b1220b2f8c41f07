"""3DPW: one or two people before a moving phone camera, labeled by IMUs (von Marcard et al. 2018).

Pickles of Python 2, one a sequence, with SMPL parameters in a world frame and a camera a frame.
Which frames count is said by `campose_valid`. The set's own `jointPositions` are SMPL's 24 joints,
not those of the protocol, so they are compared and never scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.body.files import gender_name
from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.sets.part import Part, Reader, ReadOptions, Source, joined, numbers, photos, texts
from pchmr.door.pickled import read_pickled

KEYS = (
    "sequence", "betas", "poses", "trans", "genders", "poses2d", "jointPositions",
    "img_frame_ids", "cam_poses", "campose_valid", "cam_intrinsics",
)  # fmt: skip
POSES_2D = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""Order of `poses2d`: OpenPose's 18 joints."""


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """A part for each sequence file."""
    found = [
        Source(f"{split}/{file.stem}", lambda f=file, s=split: _read(path, f, s, options))
        for split in ("train", "validation", "test")
        for file in sorted((path / "sequenceFiles" / split).glob("*.pkl"))
    ]
    if not found:
        raise InputError(
            f"{path} holds no sequenceFiles/{{train,validation,test}}/*.pkl: give the folder "
            "that 3DPW's archives were unpacked into"
        )
    return found


def _read(root: Path, file: Path, split: str, options: ReadOptions) -> Part:
    found = read_pickled(file, KEYS)
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}: get the file anew")
    people = found["poses"]
    if not isinstance(people, (list, np.ndarray)) or len(people) == 0:
        raise InputError(f"{file} holds no people in `poses`: get the file anew")
    sequence = _Sequence(root, file, found)
    parts = [_person(sequence, split, who, options) for who in range(len(people))]
    frame = np.concatenate([part.frame for part in parts])
    who = np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)])
    order = np.lexsort((who, frame))
    names = _pictures(root, file, found["img_frame_ids"])
    return replace(joined(parts, order), pictures=photos([names[at] for at in frame[order]]))


def _pictures(root: Path, file: Path, ids: Any) -> list[Path]:
    numbers_ = numbers(file, "img_frame_ids", ids, None).astype(np.int64).tolist()
    return [root / "imageFiles" / file.stem / f"image_{n:05d}.jpg" for n in numbers_]


@dataclass(frozen=True)
class _Sequence:
    """A sequence file, as it was read."""

    root: Path
    file: Path
    found: Mapping[str, Any]

    def of(self, who: int, key: str, *shape: int | None, finite: bool = True) -> np.ndarray:
        """Numbers of one person."""
        values = self.found[key]
        if not isinstance(values, (list, np.ndarray)) or len(values) <= who:
            raise InputError(f"{self.file}: {key} lacks person {who}; get the file anew")
        return numbers(self.file, key, values[who], *shape, finite=finite)

    def shared(self, key: str, *shape: int, finite: bool = True) -> np.ndarray:
        """Numbers of the camera."""
        return numbers(self.file, key, self.found[key], *shape, finite=finite)

    def gender(self, who: int) -> str:
        """Of one person; neutral where the file names none."""
        genders = self.found["genders"]
        return gender_name(genders[who] if len(genders) > who else "")

    def pictured(self, count: int) -> np.ndarray:
        """Which frames have their picture on disk."""
        names = _pictures(self.root, self.file, self.found["img_frame_ids"])
        if len(names) != count:
            raise InputError(
                f"{self.file}: img_frame_ids and poses have other lengths; get the file anew"
            )
        return np.array([name.is_file() for name in names])


def _person(sequence: _Sequence, split: str, who: int, options: ReadOptions) -> Part:
    """Rows of one person: frames whose camera is known and whose picture is there."""
    file, own = sequence.file, partial(sequence.of, who)
    poses = own("poses", None, 72, finite=False)
    count = len(poses)
    transl = own("trans", count, 3, finite=False)
    betas = np.broadcast_to(_ten(file, own("betas", None)), (count, 10))
    extrinsics = sequence.shared("cam_poses", count, 4, 4, finite=False)
    valid = own("campose_valid", count) > 0
    finite = [np.isfinite(v).reshape(count, -1).all(axis=1) for v in (poses, transl, extrinsics)]
    valid &= np.logical_and.reduce(finite)
    there = sequence.pictured(count)
    rows = np.flatnonzero(valid & there & (np.arange(count) % (options.every or 1) == 0))
    seen = own("poses2d", count, 3, len(POSES_2D), finite=False).swapaxes(1, 2)
    joints = own("jointPositions", count, 3 * len(SMPL_24), finite=False).reshape(count, -1, 3)
    intrinsics, named = sequence.shared("cam_intrinsics", 3, 3), f"{file.stem} person {who}"
    return Part(
        texts=texts(
            len(rows),
            split=split,
            subject=named,
            scene=file.stem,
            sequence=file.stem,
            action=_action(file.stem),
            clip=named,
            gender=sequence.gender(who),
            protocol="3dpw" if split == "test" else "",
        ),
        frame=rows,
        pictures=photos([]),
        global_orient=poses[rows, :3],
        body_pose=poses[rows, 3:].reshape(-1, 23, 3),
        betas=betas[rows],
        transl=transl[rows],
        has_smpl=np.ones(len(rows), dtype=bool),
        intrinsics=np.broadcast_to(intrinsics, (len(rows), 3, 3)),
        extrinsics=extrinsics[rows],
        own_joints=(joints[rows], SMPL_24.names),
        own_keypoints=(seen[rows], POSES_2D),
        left_out={
            "camera pose not valid": int((~valid).sum()),
            "picture missing": int((valid & ~there).sum()),
        },
    )


def _ten(file: Path, betas: np.ndarray) -> np.ndarray:
    """The first ten shape coefficients: some files hold three hundred."""
    if len(betas) < 10:
        raise InputError(f"{file}: betas are {len(betas)}, expected 10 or more; get the file anew")
    return betas[:10]


def _action(sequence: str) -> str:
    """What is done: the sequence's name without its place and number."""
    words = sequence.split("_")
    return "_".join(words[1:-1]) or sequence


THREE_DPW = Reader(
    about="3DPW: 60 outdoor sequences, one or two people, labeled by IMUs",
    page="virtualhumans.mpi-inf.mpg.de/3DPW",
    licence="non-commercial research; do not pass on",
    tree="imageFiles/SEQUENCE/image_00000.jpg, sequenceFiles/{train,validation,test}/SEQUENCE.pkl",
    box="projected mesh x 1.2, square",
    finds=lambda path: (path / "sequenceFiles").is_dir() and (path / "imageFiles").is_dir(),
    sources=sources,
    published={
        "sequences of train": 24,
        "sequences of validation": 12,
        "sequences of test": 24,
        "rows of test": 35_515,
    },
)
