"""3DPW: one or two people before a moving phone camera, labeled by IMUs (von Marcard et al. 2018).

Pickles of Python 2, one a sequence, with SMPL parameters in a world frame and a camera a frame.
Which frames count is said by `campose_valid`. The set's own `jointPositions` are SMPL's 24 joints,
not those of the protocol, so they are compared and never scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.body.files import gender_name
from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.sets.part import (
    CENTER_TOLERANCE,
    MISSING,
    NOT_COMPARED,
    Part,
    Reader,
    ReadOptions,
    Source,
    axes,
    compared,
    every_row_finite,
    joined,
    listed,
    numbers,
    photos,
    texts,
)
from pchmr.door.pickled import read_pickled

NEEDED = ("betas", "poses", "trans", "cam_poses", "campose_valid", "cam_intrinsics")
KEYS = (*NEEDED, "genders", "gender", "poses2d", "jointPositions", "img_frame_ids")
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
    missing = [key for key in NEEDED if key not in found]
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
    shown = [sequence.pictures[at] for at in frame[order]]
    return replace(joined(parts, order), pictures=photos([path for path in shown if path]))


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

    def compared(self, who: int, key: str, *shape: int) -> np.ndarray | None:
        """Numbers of one person that only a check looks at; None where their shape is another."""
        values = self.found.get(key)
        if not isinstance(values, (list, np.ndarray)) or len(values) <= who:
            return None
        return compared(values[who], *shape)

    def has_bad(self, key: str, read: np.ndarray | None) -> bool:
        """Whether something stands in the file that could not be read."""
        return read is None and key in self.found

    def valid(self, who: int, count: int) -> np.ndarray:
        """Frames whose camera is known; of each person, or one mask for all."""
        mask = self.found["campose_valid"]
        if isinstance(mask, (list, np.ndarray)) and len(mask) and np.isscalar(mask[0]):
            return self.shared("campose_valid", count) > 0
        return self.of(who, "campose_valid", count) > 0

    def cameras(self, count: int) -> np.ndarray:
        """Intrinsics of every frame, of a sequence's one camera or of its many."""
        if axes(self.found["cam_intrinsics"]) == 3:
            return self.shared("cam_intrinsics", count, 3, 3)
        return np.broadcast_to(self.shared("cam_intrinsics", 3, 3), (count, 3, 3))

    def betas(self, who: int) -> np.ndarray:
        """The first ten shape coefficients: some files hold three hundred."""
        values = self.found["betas"]
        own = values[who] if isinstance(values, (list, np.ndarray)) and len(values) > who else None
        flat = np.ravel(own) if isinstance(own, np.ndarray) else own
        found = numbers(self.file, "betas", flat, None)
        if len(found) < 10:
            raise InputError(
                f"{self.file}: betas are {len(found)}, expected 10 or more; get the file anew"
            )
        return found[:10]

    def gender(self, who: int) -> str:
        """Of one person; neutral where the file names none."""
        genders = self.found.get("genders", self.found.get("gender"))
        if not isinstance(genders, (list, np.ndarray)) or len(genders) <= who:
            return "neutral"
        return gender_name(genders[who])

    @cached_property
    def pictures(self) -> list[Path | None]:
        """The picture of every frame; None where it is not on disk.

        They are counted as poses are. `img_frame_ids` counts frames of the 60 Hz recording; only
        where a folder's numbers are those, they are taken.
        """
        found = listed(self.root / "imageFiles" / self.file.stem)
        count = len(self.of(0, "poses", None, 72, finite=False))
        ways = [range(count)]
        ids = compared(self.found.get("img_frame_ids"), count)
        if ids is not None and np.isfinite(ids).all():
            ways.append(ids.astype(np.int64).tolist())
        named = [[found.get(f"image_{number:05d}") for number in way] for way in ways]
        return max(named, key=lambda paths: sum(path is not None for path in paths))


def _person(sequence: _Sequence, split: str, who: int, options: ReadOptions) -> Part:
    """Rows of one person: frames whose camera is known and whose picture is there."""
    file, own = sequence.file, partial(sequence.of, who)
    poses = own("poses", None, 72, finite=False)
    count = len(poses)
    if len(sequence.pictures) != count:
        raise InputError(f"{file}: people have other numbers of frames; get the file anew")
    transl = own("trans", count, 3, finite=False)
    extrinsics = sequence.shared("cam_poses", count, 4, 4, finite=False)
    valid = sequence.valid(who, count) & every_row_finite(poses, transl, extrinsics)
    there = np.array([path is not None for path in sequence.pictures])
    rows = np.flatnonzero(valid & there & (np.arange(count) % (options.every or 1) == 0))
    named = f"{file.stem} person {who}"
    cameras = sequence.cameras(count)[rows]
    joints = sequence.compared(who, "jointPositions", count, 3 * len(SMPL_24))
    seen = sequence.compared(who, "poses2d", count, 3, len(POSES_2D))
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
        betas=np.broadcast_to(sequence.betas(who), (len(rows), 10)),
        transl=transl[rows],
        has_smpl=np.ones(len(rows), dtype=bool),
        intrinsics=cameras,
        extrinsics=extrinsics[rows],
        own_joints=None if joints is None else (joints.reshape(count, -1, 3)[rows], SMPL_24.names),
        own_keypoints=None if seen is None else (seen.swapaxes(1, 2)[rows], POSES_2D),
        size=2 * cameras[:, :2, 2],
        size_tolerance=CENTER_TOLERANCE,
        left_out={
            NOT_COMPARED.format("jointPositions"): len(rows)
            * sequence.has_bad("jointPositions", joints),
            NOT_COMPARED.format("poses2d"): len(rows) * sequence.has_bad("poses2d", seen),
            "camera pose not valid": int((~valid).sum()),
            MISSING: int((valid & ~there).sum()),
        },
    )


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
