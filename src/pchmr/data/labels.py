"""A person's own pictures with the labels that `pchmr annotate` made of them, as a data set.

Everything is read on the device that holds both; the label folder names its pictures and their
hashes. Only accepted labels count. Held out are every fifth clip, or the end of the only clip.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, SMPL_24
from pchmr.data.crops import crop, crop_intrinsics, square_around
from pchmr.data.errors import InputError
from pchmr.data.photos import load_photo
from pchmr.data.sample import COLUMNS, Sample
from pchmr.data.synthetic.recipe import Split
from pchmr.data.videos import is_video, video_frames
from pchmr.door import FileError, Json, inside, read_json_lines
from pchmr.door.arrays import read_arrays
from pchmr.geometry import centered, project_pinhole

MANIFEST = "manifest.jsonl"
ACCEPTED = "accepted"
DECIDED = "decided"
HELD_OUT = 5
GRAY = 128
PARAMETERS = ("global_orient", "body_pose", "betas", "transl")
TABLES: dict[str, tuple[int, ...]] = {
    "global_orient": (3,),
    "body_pose": (len(SMPL_24) - 1, 3),
    "betas": (10,),
    "transl": (3,),
    "intrinsics": (3, 3),
}
"""What is read of a label file, and the shape of a frame."""
ERROR = "predicted_error_mm"
BYSTANDERS = "bystanders"
"""Cells of each frame that show somebody who was not labeled; read where it is there."""
TOLD = (ERROR, "status")
"""What the columns say of each label."""


class _OfWhat(TypedDict):
    """What was labeled, and with which body."""

    input_sha256: str
    body_sha256: str


class LabelKey(_OfWhat, total=False):
    """What decides a clip's labels; which of it plays a part depends on who labels."""

    num_rows: int
    label_version: int
    predictors_sha256: list[str]
    presence_sha256: str
    mode: str
    consecutive: bool
    bbox: str | None
    person: str
    pose_prior_sha256: str
    accept_mm: float
    reject_mm: float
    priors: Json


class LabelRow(TypedDict):
    """A row of the manifest; of a clip that failed there are the first four fields alone."""

    clip: str
    label_version: int
    failed: NotRequired[str]
    source: str | None
    key: LabelKey
    labels: str
    labels_sha256: str
    labeled: int
    status: dict[str, int]
    picture: str | None
    decided: NotRequired[dict[str, str]]
    mode: NotRequired[str]
    observations: NotRequired[str | None]
    focal: NotRequired[str]
    provenance: NotRequired[Json]
    num_frames: NotRequired[int]
    calibrated: NotRequired[bool]
    predicted_error_mm: NotRequired[float | None]
    joint_std_mm: NotRequired[float]
    residuals: NotRequired[dict[str, float]]
    seconds: NotRequired[float]


def verdicts(fitted: np.ndarray, row: LabelRow) -> np.ndarray:
    """Status of each frame: what the person decided, else what the fit said."""
    found = fitted.astype("<U16")
    for frame, verdict in row.get(DECIDED, {}).items():
        found[int(frame)] = verdict
    return found


def without_bystanders(
    image: UInt8[np.ndarray, "height width 3"], cells: Bool[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, gray where cells laid over it say that it shows somebody else."""
    if not cells.any():
        return image
    (height, width), (rows, columns) = image.shape[:2], cells.shape
    hidden = cells[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    return np.where(hidden[..., None], np.uint8(GRAY), image)


def is_labels(folder: Path) -> bool:
    """Whether a folder was written by `pchmr annotate`."""
    return (folder / MANIFEST).is_file()


class LabeledPictures:
    """Accepted labels of a folder and the crops they belong to; see `PeopleDataset`.

    Attributes:
        image_size: Side of the crops in pixels.
        content_hash: Over labels, pictures, split and side.
        columns: `COLUMNS` and `TOLD`; one subject; scene and action are the number of the clip,
            never its name.
    """

    is_private = True

    def __init__(
        self,
        folder: Path,
        split: Split,
        *,
        body: BodyModel,
        image_size: int,
        statuses: tuple[str, ...] = (ACCEPTED,),
    ) -> None:
        """Reads labels and pictures and cuts the crops.

        Args:
            folder: Of `pchmr annotate`.
            split: "train", or anything else for what is held out.
            body: Body that the labels were made with.
            image_size: Side of the crops in pixels.
            statuses: Which labels count.

        Raises:
            InputError: No such label for the split, labels of another body, or a picture that
                is gone or has changed.
        """
        self.image_size = image_size
        rows = [row for row in _manifest(folder) if any(map(row.get("status", {}).get, statuses))]
        parts = [(row, *_chosen(folder, row, statuses)) for row in _pictured(folder, rows)]
        chosen = _split([len(frames) for _, _, frames in parts], split == "train")
        if not any(len(part) for part in chosen):
            raise InputError(
                f"{folder} holds no accepted label of a picture for {split}: label more pictures, "
                "or raise --accept-mm of `pchmr annotate`"
            )
        digest = hashlib.sha256(f"{split} {image_size} {body.sha256}".encode())
        if statuses != (ACCEPTED,):
            digest.update(" ".join(statuses).encode())
        for row, _, _ in parts:
            digest.update(_identity(row, body))
        own = copy.deepcopy(body).cpu()
        samples, columns = [], {name: [] for name in (*COLUMNS, *TOLD)}
        for clip, ((row, arrays, frames), keep) in enumerate(zip(parts, chosen, strict=True)):
            some = {name: value[frames[keep]] for name, value in arrays.items()}
            pictures = _pictures(Path(row["source"] or ""), frames[keep])
            samples += [_sample(own, some, k, p, image_size) for k, p in enumerate(pictures)]
            for name, value in (("subject", 0), ("scene", clip), ("action", clip), ("clip", clip)):
                columns[name] += [value] * len(keep)
            columns["frame"] += frames[keep].tolist()
            for name in TOLD:
                columns[name] += some[name].tolist()
        self.columns = {name: np.array(values) for name, values in columns.items()}
        self.content_hash = digest.hexdigest()
        self._samples: list[Sample] = samples

    def __len__(self) -> int:
        return len(self._samples)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order, without augmentation."""
        rows = np.asarray(indices, dtype=np.int64)
        joined = Sample.joined([self._samples[row] for row in rows.tolist()])
        return replace(joined, index=torch.from_numpy(rows))


def _identity(row: LabelRow, body: BodyModel) -> bytes:
    """What decides a clip's labels, which must be of this body."""
    if row["key"]["body_sha256"] not in (body.sha256, body.mesh_sha256):
        raise InputError(f"labels {row['labels']} belong to another body: give its --body")
    chosen = row.get("decided")
    decided = json.dumps(chosen, sort_keys=True) if chosen else ""
    return (row["labels_sha256"] + decided).encode()


def _manifest(folder: Path) -> list[LabelRow]:
    try:
        rows = read_json_lines(folder / MANIFEST)
    except FileError as error:
        raise InputError(f"{error}: label the pictures again") from None
    for number, row in enumerate(rows, start=1):
        if not _is_row(row):
            raise InputError(
                f"{folder / MANIFEST} line {number} is damaged: label the pictures again"
            )
    return cast(list[LabelRow], rows)


def _is_row(row: Json) -> bool:
    """Whether a row says what reading its labels needs."""
    status, key = row.get("status", {}), row.get("key", {})
    texts = [row.get("clip"), row.get("source") or "-"]
    plain = isinstance(status, dict) and isinstance(key, dict)
    if "failed" not in row and plain:
        texts += [row.get("labels"), row.get("labels_sha256")]
        texts += [key.get("input_sha256"), key.get("body_sha256")]
    return plain and all(isinstance(t, str) and t and "\0" not in t for t in texts)


def _pictured(folder: Path, rows: list[LabelRow]) -> list[LabelRow]:
    """Rows whose pictures are still what they were."""
    for row in rows:
        source = row.get("source")
        if not source:
            raise InputError(
                f"{folder}: labels {row['labels']} were made of observations without pictures; "
                "training needs labels of pictures"
            )
        path = Path(source)
        if not path.is_file():
            raise InputError(f"picture {path} of {folder} is gone: put it back or label again")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != row["key"]["input_sha256"]:
                raise InputError(f"picture {path} has changed since it was labeled: label it again")
    return rows


def _chosen(
    folder: Path, row: LabelRow, statuses: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Label arrays of a clip, and the frames whose labels count."""
    path = folder / str(row.get("labels"))
    try:
        path = inside(folder, row["labels"])
        arrays = read_arrays(path, (*TABLES, *TOLD, BYSTANDERS), sha256=row["labels_sha256"])
        status = verdicts(arrays["status"], row)
        chosen = np.isin(status, statuses)
        _check_tables(arrays, status, chosen)
        told = arrays.get(ERROR, np.full(len(status), np.nan))
        if told.shape != status.shape:
            raise ValueError(f"{ERROR} has the shape {told.shape}")
        arrays |= {"status": status, ERROR: told}
        return arrays, np.flatnonzero(chosen)
    except (FileError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = error.reason if isinstance(error, FileError) else error
        raise InputError(f"cannot read labels {path}: {reason}; label the picture again") from None


def _check_tables(arrays: dict[str, np.ndarray], status: np.ndarray, chosen: np.ndarray) -> None:
    """Refuses labels whose arrays contradict each other, or hold anything but numbers."""
    missing = [name for name in TABLES if name not in arrays]
    if missing or status.ndim != 1 or status.dtype.kind != "U":
        raise ValueError(f"they lack {', '.join(missing) or 'a status for every frame'}")
    hidden = arrays.get(BYSTANDERS)
    if hidden is not None and (hidden.dtype != bool or hidden.ndim != 3):
        raise ValueError(f"{BYSTANDERS} is {hidden.dtype} {hidden.shape}")
    if hidden is not None and (len(hidden) != len(status) or not hidden.size):
        raise ValueError(f"{BYSTANDERS} has the shape {hidden.shape}")
    for name, shape in TABLES.items():
        array = arrays[name]
        if array.shape != (len(status), *shape) or array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        if not np.isfinite(array[chosen]).all():
            raise ValueError(f"{name} holds values that are not finite")


def _split(counts: Sequence[int], training: bool) -> list[np.ndarray]:
    """Positions of each clip's accepted frames that belong to the split."""
    if len(counts) == 1:
        first = counts[0] - counts[0] // HELD_OUT if counts[0] >= HELD_OUT else counts[0] - 1
        rows = np.arange(counts[0])
        return [rows[:first] if training else rows[first:]]
    held = set(range(HELD_OUT - 1, len(counts), HELD_OUT)) or {len(counts) - 1}
    return [
        np.arange(count if (clip not in held) == training else 0)
        for clip, count in enumerate(counts)
    ]


def _pictures(path: Path, frames: np.ndarray) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames of a photo or video, in order."""
    if not is_video(path):
        yield from (load_photo(path) for _ in frames)
        return
    wanted = set(frames.tolist())
    if wanted:
        yield from (image for at, (image, _) in enumerate(video_frames(path)) if at in wanted)


def _sample(
    body: BodyModel, arrays: dict[str, np.ndarray], row: int, image: np.ndarray, image_size: int
) -> Sample:
    """One person: the square around the labeled mesh, and the labels seen from it."""
    parameters = {name: torch.from_numpy(arrays[name][[row]]).float() for name in PARAMETERS}
    camera = torch.from_numpy(arrays["intrinsics"][[row]]).float()
    with torch.no_grad():
        vertices = body(*parameters.values()).vertices
        joints = body.regress(vertices, EVALUATION_14)
    pixels = project_pinhole(vertices, camera)[0]
    (left, top), (right, bottom) = pixels.amin(dim=0).tolist(), pixels.amax(dim=0).tolist()
    square = square_around((left, top, right, bottom))
    if BYSTANDERS in arrays:
        image = without_bystanders(image, arrays[BYSTANDERS][row])
    camera = crop_intrinsics(camera, square, image_size)
    places = 2 * project_pinhole(joints, camera) / image_size - 1
    about_hips = centered(joints, EVALUATION_14.root)
    sure = torch.ones_like(joints[..., :1])
    known = torch.ones(1, dtype=torch.bool)
    return Sample(
        images=crop(image, square, image_size)[None],
        keypoints_2d=torch.cat([places, (places.abs() <= 1).all(dim=-1, keepdim=True)], dim=-1),
        joints=torch.cat([about_hips, sure], dim=-1),
        **parameters,
        intrinsics=camera,
        has_smpl=known,
        has_joints=known,
        has_keypoints_2d=known,
        index=torch.zeros(1, dtype=torch.int64),
    )
