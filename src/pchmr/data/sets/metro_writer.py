"""METRO's TSV files out of an imported set: ASCII, offsets in bytes, one YAML a split.

Pictures are the stored crops, byte for byte. What the layout lacks, camera, translation and who is
where in which frame, goes into the label under names of its own, which other readers pass over.
Joints that the protocol's 14 do not hold have confidence 0, but for the pelvis: the middle of the
hips.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path

import numpy as np

from pchmr.body.joints import EVALUATION_14, METRO_24, METRO_TO_EVALUATION
from pchmr.data.sets.folder import ImportedPeople, margin_of
from pchmr.data.sets.metro import OWN_WORDS
from pchmr.data.sets.part import SPLITS
from pchmr.door import Json
from pchmr.runs.files import make_private, write_bytes

TABLES = ("img", "label", "hw", "linelist")
GENDER_LETTERS = {"male": "m", "female": "f", "neutral": "none"}


def write_tsv(people: ImportedPeople, folder: Path, advance: Callable[[int], None]) -> Path:
    """Writes every split of a set; returns the folder.

    Args:
        people: All splits of an import.
        folder: To write.
        advance: Called with 1 after each row.
    """
    make_private(folder, "the folder", marks=tuple(f"{split}.yaml" for split in SPLITS))
    for split in SPLITS:
        rows = np.flatnonzero(people.columns["split"] == split)
        if len(rows):
            _write_split(people, rows, folder, split, advance)
    return folder


def _write_split(
    people: ImportedPeople,
    rows: np.ndarray,
    folder: Path,
    split: str,
    advance: Callable[[int], None],
) -> None:
    files = {name: (folder / f"{split}.{name}.tsv").open("wb") for name in TABLES}
    starts: dict[str, list[int]] = {name: [] for name in TABLES}
    try:
        for number, row in enumerate(rows.tolist()):
            for name, columns in _lines(people, row, number).items():
                starts[name].append(_write(files[name], columns))
            advance(1)
    finally:
        for file in files.values():
            file.close()
    for name, offsets in starts.items():
        text = "".join(f"{offset}\n" for offset in offsets)
        write_bytes(folder / f"{split}.{name}.lineidx", text.encode())
    about = "".join(f"{name}: {split}.{name}.tsv\n" for name in TABLES)
    write_bytes(folder / f"{split}.yaml", about.encode())


def _write(file: BufferedWriter, columns: list[str]) -> int:
    """Writes a line and returns where it starts, in bytes."""
    start = file.tell()
    file.write("\t".join(columns).encode("ascii", "backslashreplace") + b"\n")
    return start


def _lines(people: ImportedPeople, row: int, number: int) -> dict[str, list[str]]:
    sequence, frame = people.columns.at("sequence", row), int(people.columns.at("frame", row))
    key = f"{sequence}/image_{max(frame, row):05d}.jpg".replace("\t", " ")
    side = people.image_size + 2 * margin_of(people.image_size)
    return {
        "img": [key, b64encode(people.jpeg(row)).decode()],
        "label": [key, json.dumps([_label(people, row)])],
        "hw": [key, json.dumps([{"height": side, "width": side}])],
        "linelist": [str(number)],
    }


def _label(people: ImportedPeople, row: int) -> Json:
    """One person; pixels are those of the stored crop."""
    size, margin = people.image_size, margin_of(people.image_size)
    seen, joints = (people.detail(name)[row].copy() for name in ("keypoints_2d", "joints"))
    seen[:, :2] = (seen[:, :2] + 1) / 2 * size + margin
    camera = people.detail("intrinsics")[row].copy()
    camera[:2, 2] += margin
    pose = np.concatenate(
        [people.detail("global_orient")[row], people.detail("body_pose")[row].ravel()]
    )
    return {
        "center": [margin + size / 2] * 2,
        "scale": size / 200,
        "2d_joints": _of_24(seen),
        "has_2d_joints": int(people.detail("has_keypoints_2d")[row]),
        "3d_joints": _of_24(joints),
        "has_3d_joints": int(people.detail("has_joints")[row]),
        "pose": pose.tolist(),
        "betas": people.detail("betas")[row].tolist(),
        "has_smpl": int(people.detail("has_smpl")[row]),
        "gender": GENDER_LETTERS.get(people.columns.at("gender", row), "none"),
        "intrinsics": camera.tolist(),
        "transl": people.detail("transl")[row].tolist(),
        "frame": int(people.columns.at("frame", row)),
        **{name: people.columns.at(name, row) for name in OWN_WORDS},
    }


def _of_24(values: np.ndarray) -> list[list[float]]:
    """The 14 joints at their places among METRO's 24, and the pelvis between the hips."""
    found = np.zeros((len(METRO_24), values.shape[1]))
    found[list(METRO_TO_EVALUATION)] = values
    found[METRO_24.index("pelvis")] = values[list(EVALUATION_14.root)].mean(axis=0)
    return found.tolist()
