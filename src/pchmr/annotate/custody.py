"""`pchmr labels`: what becomes of labels: list, export, keep for so many days, delete.

The export has the layout of 3DPW's sequence files, so that tools for that data set read it: camera
frame as world frame, `campose_valid` 1 where a label was accepted. It is as private as the labels.
"""

import pickle
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from pchmr.annotate.consent import LABELING, read_consent, record, withdraw
from pchmr.annotate.labels import LabelFolder
from pchmr.body.joints import SMPL_24
from pchmr.config import LabelsConfig, SettingError
from pchmr.data.labels import ACCEPTED, MANIFEST, LabelRow, verdicts
from pchmr.door import Json
from pchmr.door.arrays import read_arrays
from pchmr.perception.names import canonical_name
from pchmr.runs import alone, make_private, write_bytes

SECONDS_PER_DAY = 86_400
REVIEW, REJECTED = "review", "rejected"
POSES_2D = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
"""The 18 keypoints of 3DPW's `poses2d`, in its order; the neck is the middle of the shoulders."""


@alone
def manage(config: LabelsConfig) -> Path:
    """Decides, exports, then forgets what is too old or named; says what is left.

    Raises:
        SettingError: The folder holds no labels, or a clip is not among them.
    """
    if not (config.labels / MANIFEST).is_file():
        raise SettingError(f"{config.labels} holds no {MANIFEST}: give the output of annotate")
    folder = LabelFolder.open(config.labels)
    for option, verdict in (("accept", ACCEPTED), ("reject", REJECTED)):
        for clip, frames in _chosen(folder, option, getattr(config, option)):
            folder.decide(clip, frames, verdict)
            print(f"{verdict}: {clip}, {_frames(len(frames))}")
    if config.export is not None:
        print(exported(folder, config.export, export(folder, config.export)))
    if config.who is not None:
        record(folder.path, who=config.who, purpose=LABELING, keep_days=config.consent_days)
    doomed = _too_old(folder, config.keep_days) + _named(folder, config.delete)
    consent = read_consent(folder.path)
    if consent is not None and consent.is_over:
        print(f"the time that {consent.who} gave has passed")
        doomed += list(folder.rows)
    if doomed:
        print("".join(f"{line}\n" for line in withdraw(folder.path)), end="")
    for clip in dict.fromkeys(doomed):
        folder.forget(clip)
        print(f"deleted: {clip}")
    _tell(folder)
    if config.delete == "all" and folder.path.exists():
        folder.close()
    return folder.path


def exported(folder: LabelFolder, target: Path, count: int) -> str:
    """What `--export` wrote, and how many of its frames a reader may use."""
    found = [row.get("status", {}) for row in folder.rows.values() if "failed" not in row]
    frames = sum(sum(status.values()) for status in found)
    valid = sum(status.get(ACCEPTED, 0) for status in found)
    said = f"{count} clips exported to {target}, {valid} of {_frames(frames)} marked valid"
    if valid or not frames:
        return said
    return (
        f"{said}: readers of such files will use none of them; accept what is right with "
        f"`pchmr labels {folder.path} --accept all` or CLIP:FRAME, and export into a new folder"
    )


def _tell(folder: LabelFolder) -> None:
    for clip, row in folder.rows.items():
        print(f"{clip}: {sentence(folder.path, clip, row)}")
    if folder.rows:
        for path in folder.orphans():
            print(f"{path.name} belongs to no clip; `--delete all` removes it with the rest")
    print(f"{len(folder.rows)} clips in {folder.path}")


def sentence(folder: Path, clip: str, row: LabelRow) -> str:
    """What became of a clip, how wrong it may be and why, and the command that follows."""
    if "failed" in row:
        return f"not labeled: {row['failed']}; then `pchmr annotate` it again"
    status, error = row.get("status", {}), row.get("predicted_error_mm")
    parts = [f"{_frames(count)} {name}" for name, count in sorted(status.items())]
    said = ", ".join(parts) or "nothing"
    said += ", error unknown" if error is None else f", predicted error {error:g} mm"
    if row.get("decided"):
        return f"{said}; {_frames(len(row['decided']))} as you decided"
    if row.get("calibrated") is False:
        said += "; no error predictor knows this kind of input, so nothing is accepted unseen"
    limits = row.get("key", {})
    name = shlex.quote(clip)
    if status.get(REVIEW):
        why = f"accepted below {limits.get('accept_mm', '?')} mm"
        look = f"look at {_shown(row)}, then"
        return f"{said} ({why}); {look} `pchmr labels {folder} --accept {name}`, or --reject {name}"
    if status.get(REJECTED):
        why = f"rejected above {limits.get('reject_mm', '?')} mm"
        return f"{said} ({why}); take a clearer picture, or `pchmr labels {folder} --accept {name}`"
    return f"{said}; next: `pchmr train --data {folder}`"


def _shown(row: LabelRow) -> str:
    return row.get("picture") or row.get("labels", "its labels")


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"


def _chosen(folder: LabelFolder, option: str, text: str | None) -> list[tuple[str, list[int]]]:
    """Clips and frames of `--accept` or `--reject`: CLIP, CLIP:FRAME, or all."""
    if text is None:
        return []
    labeled = {clip: row for clip, row in folder.rows.items() if "failed" not in row}
    names = list(labeled) if text == "all" else _listed(text, folder)
    return [_clip_and_frames(labeled, name, option) for name in names]


def _clip_and_frames(labeled: dict[str, LabelRow], name: str, option: str) -> tuple[str, list[int]]:
    clip, _, frame = name.rpartition(":")
    if name in labeled:
        return name, list(range(_count(labeled[name])))
    if clip not in labeled:
        known = ", ".join(list(labeled)[:6]) or "none"
        raise SettingError(f"--{option} {name}: no such labeled clip; known: {known}")
    count = _count(labeled[clip])
    if not (frame.isdecimal() and int(frame) < count):
        raise SettingError(f"--{option} {name}: {clip} has frames 0 to {count - 1}")
    return clip, [int(frame)]


def _count(row: LabelRow) -> int:
    return sum(row["status"].values())


def _listed(text: str, folder: LabelFolder) -> list[str]:
    """Names with commas between them; a clip may have a comma in its own."""
    if text in folder.rows:
        return [text]
    return [name.strip() for name in text.split(",")]


def _named(folder: LabelFolder, text: str | None) -> list[str]:
    if text is None:
        return []
    if text == "all":
        return list(folder.rows)
    names = _listed(text, folder)
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
    make_private(target, "--export")
    for clip, row in clips:
        sequence = _read_sequence(folder.path / row["labels"], clip, row)
        write_bytes(place / f"{clip}.pkl", pickle.dumps(sequence, protocol=2))
    return len(clips)


def _read_sequence(path: Path, clip: str, row: LabelRow) -> Json:
    try:
        arrays = read_arrays(path)
        return as_sequence(clip, arrays | {"status": verdicts(arrays["status"], row)})
    except (ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
        raise SettingError(
            f"cannot read labels {path}: {error}; delete the clip with --delete {clip}, or label "
            "its picture again"
        ) from None


def as_sequence(clip: str, arrays: dict[str, ndarray]) -> Json:
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
        "campose_valid": [(arrays["status"] == ACCEPTED).astype(np.int64)],
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
