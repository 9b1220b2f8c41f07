"""A person's own pictures with the labels that `pchmr annotate` made of them, as a data set.

Everything is read on the device that holds both; the label folder names its pictures and their
hashes. Only accepted labels count. Held out are every fifth clip, or the end of the only clip.
"""

import copy
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.crops import crop, crop_intrinsics, square_around
from pchmr.data.errors import UNREADABLE, InputError
from pchmr.data.photos import is_video, load_photo, video_frames
from pchmr.data.sample import COLUMNS, Sample
from pchmr.data.synthetic.recipe import Split
from pchmr.geometry import project_pinhole

MANIFEST = "manifest.jsonl"
ACCEPTED = "accepted"
DECIDED = "decided"
HELD_OUT = 5
PARAMETERS = ("global_orient", "body_pose", "betas", "transl")


def verdicts(fitted: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
    """Status of each frame: what the person decided, else what the fit said."""
    found = fitted.astype("<U16")
    for frame, verdict in row.get(DECIDED, {}).items():
        found[int(frame)] = verdict
    return found


def is_labels(folder: Path) -> bool:
    """Whether a folder was written by `pchmr annotate`."""
    return (folder / MANIFEST).is_file()


class LabeledPictures:
    """Accepted labels of a folder and the crops they belong to; see `PeopleDataset`.

    Attributes:
        image_size: Side of the crops in pixels.
        content_hash: Over labels, pictures, split and side.
        columns: `COLUMNS`; one subject; scene and action are the number of the clip, never its
            name.
    """

    is_private = True

    def __init__(self, folder: Path, split: Split, *, body: BodyModel, image_size: int) -> None:
        """Reads labels and pictures and cuts the crops.

        Args:
            folder: Of `pchmr annotate`.
            split: "train", or anything else for what is held out.
            body: Body that the labels were made with.
            image_size: Side of the crops in pixels.

        Raises:
            InputError: No accepted label for the split, labels of another body, or a picture that
                is gone or has changed.
        """
        self.image_size = image_size
        rows = [row for row in _manifest(folder) if row.get("status", {}).get(ACCEPTED)]
        parts = [(row, *_accepted(folder, row)) for row in _pictured(folder, rows)]
        chosen = _split([len(frames) for _, _, frames in parts], split == "train")
        if not any(len(part) for part in chosen):
            raise InputError(
                f"{folder} holds no accepted label of a picture for {split}: label more pictures, "
                "or raise --accept-mm of `pchmr annotate`"
            )
        digest = hashlib.sha256(f"{split} {image_size} {body.sha256}".encode())
        own = copy.deepcopy(body).cpu()
        samples, columns = [], {name: [] for name in COLUMNS}
        for clip, ((row, arrays, frames), keep) in enumerate(zip(parts, chosen, strict=True)):
            if row["key"]["body_sha256"] not in (body.sha256, body.mesh_sha256):
                raise InputError(f"labels {row['labels']} belong to another body: give its --body")
            digest.update(row["labels_sha256"].encode())
            if row.get(DECIDED):
                digest.update(json.dumps(row[DECIDED], sort_keys=True).encode())
            some = {name: value[frames[keep]] for name, value in arrays.items()}
            pictures = _pictures(Path(row["source"]), frames[keep])
            samples += [_sample(own, some, k, p, image_size) for k, p in enumerate(pictures)]
            for name, value in (("subject", 0), ("scene", clip), ("action", clip),
                                ("clip", clip)):  # fmt: skip
                columns[name] += [value] * len(keep)
            columns["frame"] += frames[keep].tolist()
        self.columns = {name: np.array(values) for name, values in columns.items()}
        self.content_hash = digest.hexdigest()
        self._samples: list[Sample] = samples

    def __len__(self) -> int:
        return len(self._samples)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order, without augmentation."""
        rows = np.asarray(indices, dtype=np.int64)
        parts = [self._samples[row] for row in rows.tolist()]
        values = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])
        }
        return Sample(**{**values, "index": torch.from_numpy(rows)})


def _manifest(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {folder / MANIFEST}: {error}") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"{folder / MANIFEST} line {number} is damaged: label the pictures again"
            )
    return rows


def _pictured(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose pictures are still what they were."""
    for row in rows:
        if not row.get("source"):
            raise InputError(
                f"{folder}: labels {row['labels']} were made of observations without pictures; "
                "training needs labels of pictures"
            )
        path = Path(row["source"])
        if not path.is_file():
            raise InputError(f"picture {path} of {folder} is gone: put it back or label again")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != row["key"]["input_sha256"]:
                raise InputError(f"picture {path} has changed since it was labeled: label it again")
    return rows


def _accepted(folder: Path, row: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Label arrays of a clip, and the frames that were accepted."""
    path = folder / row["labels"]
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != row["labels_sha256"]:
            raise ValueError("the file has changed since it was written; label the picture again")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*PARAMETERS, "intrinsics")}
            return arrays, np.flatnonzero(verdicts(file["status"], row) == ACCEPTED)
    except (*UNREADABLE, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"cannot read labels {path}: {error}") from None


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
        yield from (image for at, image in enumerate(video_frames(path)) if at in wanted)


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
    camera = crop_intrinsics(camera, square, image_size)
    places = 2 * project_pinhole(joints, camera) / image_size - 1
    centred = joints - joints[:, list(EVALUATION_14.root)].mean(dim=1, keepdim=True)
    sure = torch.ones_like(joints[..., :1])
    known = torch.ones(1, dtype=torch.bool)
    return Sample(
        images=crop(image, square, image_size)[None],
        keypoints_2d=torch.cat([places, (places.abs() <= 1).all(dim=-1, keepdim=True)], dim=-1),
        joints=torch.cat([centred, sure], dim=-1),
        **parameters,
        intrinsics=camera,
        has_smpl=known,
        has_joints=known,
        has_keypoints_2d=known,
        index=torch.zeros(1, dtype=torch.int64),
    )
