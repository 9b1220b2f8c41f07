"""`pchmr labels`: what becomes of labels: list, export, keep for so many days, delete.

The export has the layout of 3DPW's sequence files, so that tools for that data set read it: camera
frame as world frame, `campose_valid` 1 where a label was accepted. It is as private as the labels.
"""

import json
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.annotate.labels import FOLDER_MODE, MANIFEST, LabelFolder, private_umask
from pchmr.body.joints import SMPL_24
from pchmr.config import LabelsConfig, SettingError
from pchmr.data.errors import UNREADABLE
from pchmr.perception.names import canonical_name
from pchmr.runs import replacing

SECONDS_PER_DAY = 86_400
POSES_2D = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""The 18 keypoints of 3DPW's `poses2d`, in its order; the neck is the middle of the shoulders."""


def manage(config: LabelsConfig) -> Path:
    """Exports, then forgets what is too old or named; prints what is left.

    Raises:
        SettingError: The folder holds no labels, or a clip is not among them.
    """
    if not (config.labels / MANIFEST).is_file():
        raise SettingError(f"{config.labels} holds no {MANIFEST}: give the output of annotate")
    folder = LabelFolder.open(config.labels)
    if config.export is not None:
        count = export(folder, config.export)
        print(f"{count} clips exported to {config.export}")
    doomed = _too_old(folder, config.keep_days) + _named(folder, config.delete)
    for clip in dict.fromkeys(doomed):
        folder.forget(clip)
        print(f"deleted: {clip}")
    for clip, row in folder.rows.items():
        print(f"{clip}: {row.get('failed') or json.dumps(row['status'])}")
    print(f"{len(folder.rows)} clips in {folder.path}")
    return folder.path


def _named(folder: LabelFolder, text: str | None) -> list[str]:
    if text is None:
        return []
    if text == "all":
        return list(folder.rows)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in folder.rows:
            known = ", ".join(list(folder.rows)[:6]) or "none"
            raise SettingError(f"--delete {name}: no such clip; known: {known}")
    return names


def _too_old(folder: LabelFolder, days: float | None) -> list[str]:
    if days is None:
        return []
    border = time.time() - days * SECONDS_PER_DAY
    return [clip for clip, row in folder.rows.items() if row.get("labeled", 0) < border]


def export(folder: LabelFolder, target: Path) -> int:
    """Writes `sequenceFiles/train/CLIP.pkl` for every labeled clip; returns how many.

    The files hold plain arrays, lists and strings.

    Raises:
        SettingError: The target holds something already, or a clip's labels are damaged.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise SettingError(
            f"--export {target} exists and is not empty: give a new folder, it becomes readable by "
            "you alone"
        )
    clips = [(clip, row) for clip, row in folder.rows.items() if "failed" not in row]
    place = target / "sequenceFiles" / "train"
    with private_umask():
        place.mkdir(parents=True, exist_ok=True)
        for part in (target, target / "sequenceFiles", place):
            part.chmod(FOLDER_MODE)
        for clip, row in clips:
            sequence = _read_sequence(folder.path / row["labels"], clip)
            with replacing(place / f"{clip}.pkl") as temporary:
                temporary.write_bytes(pickle.dumps(sequence, protocol=2))
    return len(clips)


def _read_sequence(path: Path, clip: str) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return as_sequence(clip, {name: file[name] for name in file.files})
    except (*UNREADABLE, KeyError) as error:
        raise SettingError(
            f"cannot read labels {path}: {error}; delete the clip with --delete {clip}, or label "
            "its picture again"
        ) from None


def as_sequence(clip: str, arrays: dict[str, ndarray]) -> dict[str, Any]:
    """Labels under the names and in the shapes of a 3DPW sequence of one person."""
    count = len(arrays["betas"])
    turns = np.concatenate([arrays["global_orient"][:, None], arrays["body_pose"]], axis=1)
    cameras = arrays["intrinsics"]
    is_fixed = np.allclose(cameras, cameras[:1])
    return {
        "sequence": clip,
        "genders": ["n"],
        "poses": [turns.reshape(count, -1).astype(np.float64)],
        "betas": [arrays["betas"][0] if _constant(arrays["betas"]) else arrays["betas"]],
        "trans": [arrays["transl"].astype(np.float64)],
        "jointPositions": [_joints(arrays).reshape(count, -1)],
        "poses2d": [poses_2d(arrays["keypoints_2d"], arrays["keypoint_names"].tolist())],
        "cam_intrinsics": (cameras[0] if is_fixed else cameras).astype(np.float64),
        "cam_poses": np.tile(np.eye(4), (count, 1, 1)),
        "campose_valid": [(arrays["status"] == "accepted").astype(np.int64)],
        "img_frame_ids": np.arange(count),
    }


def _constant(values: ndarray) -> bool:
    return bool(np.allclose(values, values[:1]))


def _joints(arrays: dict[str, ndarray]) -> ndarray:
    """The 24 joints of the kinematic chain, metres, camera frame."""
    assert arrays["smpl_joints"].shape[1] == len(SMPL_24)
    return arrays["smpl_joints"].astype(np.float64)


def poses_2d(keypoints: ndarray, names: Sequence[str]) -> ndarray:
    """Observed keypoints (N, 3, 18) in 3DPW's order, zero where there is none."""
    own = [canonical_name(name) for name in names]
    found = np.zeros((len(keypoints), len(POSES_2D), 3))
    for row, name in enumerate(POSES_2D):
        if name in own:
            found[:, row] = keypoints[:, own.index(name)]
    sides = [POSES_2D.index(f"{side}_shoulder") for side in ("left", "right")]
    if "neck" not in own:
        found[:, POSES_2D.index("neck")] = found[:, sides].mean(axis=1)
    found[~np.isfinite(found).all(axis=-1)] = 0
    return found.transpose(0, 2, 1)
