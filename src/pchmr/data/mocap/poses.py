"""A folder of poses: what `pchmr data import amass|bvh` writes and `data synth --poses` reads.

`poses.safetensors` holds local rotations of all recordings one after another, `poses.json` their
names and lengths. Recordings are licensed: a folder of them is private, and nothing of it ships.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from safetensors.numpy import save

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.mocap.amass import read_amass
from pchmr.data.mocap.bvh import read_bvh
from pchmr.data.mocap.motion import FRAMES_PER_SECOND, Motion
from pchmr.door import read_json
from pchmr.door.tensors import read_tensors
from pchmr.runs.files import make_private, write_bytes

POSES, ABOUT = "poses.safetensors", "poses.json"
SUFFIXES = {"amass": ".npz", "bvh": ".bvh"}
HELD_OUT = 5  # one of so many recordings is test, another validation


@dataclass(frozen=True, kw_only=True)
class PoseSet:
    """Recordings of motion.

    Attributes:
        rotvec: Local rotations of the 24 joints of all frames.
        start: First frame of each recording, and the end of the last.
        names: Of the recordings.
        sha256: Of the rotations.
    """

    rotvec: Float[ndarray, "frames 24 3"]
    start: Int[ndarray, " recordings_and_one"]
    names: tuple[str, ...]
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> "PoseSet":
        """The poses of a folder.

        Raises:
            UserError: It holds none, or damaged ones.
        """
        if not (folder / ABOUT).is_file():
            raise InputError(f"{folder} holds no poses: make them with `pchmr data import amass`")
        about = read_json(folder / ABOUT)
        cure = f"{folder} is damaged: import the recordings anew"
        if not isinstance(about, dict) or not isinstance(about.get("names"), list):
            raise InputError(cure)
        arrays, _ = read_tensors(folder / POSES, framework="numpy", sha256=about.get("sha256"))
        rotvec, start = arrays.get("rotvec"), arrays.get("start")
        if rotvec is None or start is None or rotvec.shape[1:] != (len(SMPL_24), 3):
            raise InputError(cure)
        whole = len(start) == len(about["names"]) + 1 and start[0] == 0 and start[-1] == len(rotvec)
        if not whole or not (np.diff(start) > 0).all():
            raise InputError(cure)
        names = tuple(map(str, about["names"]))
        return cls(rotvec=rotvec, start=start, names=names, sha256=str(about["sha256"]))

    def of_split(self, split: str) -> Int[ndarray, " recordings"]:
        """Recordings of a split: of every five one is test, one validation."""
        place = np.arange(len(self.names)) % HELD_OUT
        held = {"test": HELD_OUT - 1, "validation": HELD_OUT - 2}
        if split in held:
            return np.flatnonzero(place == held[split])
        return np.flatnonzero(~np.isin(place, list(held.values())))


def is_amass(path: Path) -> bool:
    """Whether a folder holds recordings under AMASS's names."""
    return any(True for suffix in ("poses", "stageii") for _ in path.glob(f"*_{suffix}.npz"))


def is_bvh(path: Path) -> bool:
    """Whether a folder holds BVH files."""
    return any(True for _ in path.glob("*.bvh"))


def read_recording(name: str, file: Path, called: str, body: BodyModel) -> Motion | None:
    """The motion of a file on the body's skeleton; None where it holds none.

    Args:
        name: "amass" or "bvh".
        file: To read.
        called: Name of the motion.
        body: Whose skeleton is posed.

    Raises:
        UserError: It is damaged.
    """
    if name == "amass":
        return read_amass(file, called)
    rest = body.rest_joints(body.v_template.new_zeros(body.num_betas)).double().cpu().numpy()
    return read_bvh(file, called, rest)


def import_poses(
    name: str,
    source: Path,
    folder: Path,
    body: BodyModel,
    progress: Callable[[int, int], None],
) -> Path:
    """Reads every recording below a folder, or one file, and writes them as poses.

    Args:
        name: "amass" or "bvh".
        source: Folder or file.
        folder: To write.
        body: Whose skeleton is posed.
        progress: Called with the number of files read and of all files.

    Raises:
        UserError: Nothing is there, or a file is damaged.
    """
    suffix = SUFFIXES[name]
    found = sorted(source.rglob(f"*{suffix}")) if source.is_dir() else [source]
    motions: list[Motion] = []
    for number, file in enumerate(found):
        called = str(file.relative_to(source)) if source.is_dir() else file.name
        motion = read_recording(name, file, called, body)
        if motion is not None and len(motion.rotvec):
            motions.append(motion)
        progress(number + 1, len(found))
    if len(motions) < HELD_OUT:
        motions = _in_pieces(motions)
    if len(motions) < HELD_OUT:
        raise InputError(
            f"{source} holds {len(motions)} frames of motion in {suffix}, at "
            f"{FRAMES_PER_SECOND} a second: three splits need {HELD_OUT}"
        )
    _write(folder, motions)
    return folder


def _in_pieces(motions: list[Motion]) -> list[Motion]:
    """Recordings that are too few for three splits, each cut in time."""
    return [
        Motion(name=f"{motion.name} {number} of {HELD_OUT}", rotvec=piece)
        for motion in motions
        for number, piece in enumerate(np.array_split(motion.rotvec, HELD_OUT), start=1)
        if len(piece)
    ]


def _write(folder: Path, motions: list[Motion]) -> None:
    make_private(folder, "the folder", marks=(ABOUT,))
    lengths = [len(motion.rotvec) for motion in motions]
    rotvec = np.concatenate([motion.rotvec for motion in motions]).astype(np.float32)
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    content = save({"rotvec": rotvec, "start": start})
    write_bytes(folder / POSES, content)
    about = {"names": [m.name for m in motions], "sha256": hashlib.sha256(content).hexdigest()}
    write_bytes(folder / ABOUT, json.dumps(about, indent=1).encode())
