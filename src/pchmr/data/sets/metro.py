"""METRO's TSV files: pictures, boxes, 24 joints and SMPL parameters of several sets in one layout.

FastMETRO and TORE read them too. A YAML names the files; `composite: true` strings several
together. The layout has no camera: where a row has none of ours (`metro_writer.py`), one of a long
lens is assumed. Of a row's joints the 14 of the protocol are taken.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from PIL import Image as Pillow

from pchmr.body.files import BodyFileError, gender_name
from pchmr.body.joints import METRO_24, METRO_TO_EVALUATION
from pchmr.data.errors import InputError
from pchmr.data.photos import MAX_PHOTO_PIXELS
from pchmr.data.sets.part import (
    UNKNOWN_FRAME,
    Image,
    Part,
    Reader,
    ReadOptions,
    Source,
    below,
    numbers,
    texts,
)
from pchmr.data.sets.tsv import Tsv, read_yaml
from pchmr.door import parse_json
from pchmr.door.limits import PHOTO_BYTES

BLOCK = 256
H36M_KEY = re.compile(r"(S\d+)_([A-Za-z]+)(?:[ _]\d+)?\.(\d{8})")
SPLIT_WORDS = {"train": "train", "valid": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Table:
    """The files of one YAML.

    Attributes:
        path: Of the YAML.
        images: Tables of pictures.
        labels: Tables of labels, one a table of pictures.
        rows: Table and line of each row.
    """

    path: Path
    images: list[Tsv]
    labels: list[Tsv]
    rows: list[tuple[int, int]]


def _yamls(path: Path) -> list[Path]:
    return sorted(path.glob("*.yaml")) if path.is_dir() else [path]


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """Blocks of rows of every YAML of a folder, or of one."""
    found = []
    for file in _yamls(path):
        table = _table(file)
        rows = range(0, len(table.rows), options.every or 1)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            found.append(Source(f"{file.stem} {start}", lambda t=table, p=part: _read(t, p)))
    if not found:
        raise InputError(f"{path} holds no .yaml of METRO's TSV files: give the folder or the file")
    return found


def _table(path: Path) -> Table:
    about = read_yaml(path)
    missing = [key for key in ("img", "label") if not about.get(key)]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: give a YAML of METRO's TSV files")
    images, labels = _files(path, about["img"]), _files(path, about["label"])
    if len(images) != len(labels):
        raise InputError(f"{path} names {len(images)} tables of pictures, {len(labels)} of labels")
    listed = _files(path, about.get("linelist", []))
    if not listed:
        rows = [(k, row) for k, image in enumerate(images) for row in range(len(image))]
        return Table(path, images, labels, rows)
    composite = str(about.get("composite", "")).lower() == "true"
    return Table(path, images, labels, _listed(listed[0], composite, images))


def _files(path: Path, named: str | list[str]) -> list[Tsv]:
    names = [named] if isinstance(named, str) else named
    return [Tsv(below(path.parent, name)) for name in names]


def _listed(file: Tsv, composite: bool, images: list[Tsv]) -> list[tuple[int, int]]:
    found = []
    for number in range(len(file)):
        words = file.row(number)
        try:
            place = [int(word) for word in words[: 2 if composite else 1]]
        except ValueError:
            place = []
        ok = len(place) == (2 if composite else 1) and (place[0] if composite else 0) >= 0
        if not ok or (composite and place[0] >= len(images)):
            raise InputError(f"{file.path} line {number} names no row: get the file anew")
        found.append((place[0], place[1]) if composite else (0, place[0]))
    return found


def _read(table: Table, block: range) -> Part:
    found = [_row(table, *table.rows[at]) for at in block]
    split = next((s for word, s in SPLIT_WORDS.items() if word in table.path.stem.lower()), "")

    def stack(name: str) -> np.ndarray:
        return np.array([row[name] for row in found], dtype=np.float64)

    has_camera = all(row["camera"] is not None for row in found)
    pose = stack("pose")
    named = {
        name: [row[name] for row in found] for name in ("subject", "scene", "action", "gender")
    }
    clip = [f"{table.path.stem} {row['scene']} {row['subject']}" for row in found]
    return Part(
        texts=texts(len(found), split=split, sequence=named["scene"], clip=clip, **named),
        frame=np.full(len(found), UNKNOWN_FRAME),
        pictures=lambda: _pictures(table, block),
        global_orient=pose[:, :3],
        body_pose=pose[:, 3:].reshape(-1, 23, 3),
        betas=stack("betas"),
        transl=stack("transl") if has_camera else None,
        has_smpl=stack("has_smpl") > 0,
        intrinsics=np.array([row["camera"] for row in found]) if has_camera else None,
        square=stack("square"),
        joints=stack("joints"),
        keypoints_2d=stack("keypoints_2d"),
    )


class _Names(TypedDict):
    """What the key of a line says."""

    subject: str
    scene: str
    action: str


class _Person(_Names):
    """Labels of a line in our order; the camera is None where the set names none."""

    keypoints_2d: np.ndarray
    joints: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    has_smpl: float
    square: list[float]
    camera: np.ndarray | None
    transl: np.ndarray
    gender: str


def _row(table: Table, which: int, line: int) -> _Person:
    """One person: labels in our order."""
    file, columns = table.labels[which].path, table.labels[which].row(line)
    try:
        label = parse_json(columns[-1])[0]
        assert isinstance(label, dict)
    except (ValueError, LookupError, TypeError, AssertionError):
        raise InputError(f"{file} line {line} holds no label: get the file anew") from None

    def entry(key: str, *shape: int) -> np.ndarray:
        value = label.get(key)
        if value is None:
            return np.zeros(shape)
        flat = numbers(file, f"{key} of line {line}", np.ravel(_array(file, key, value)), None)
        if flat.size != np.prod(shape):
            raise InputError(f"{file} line {line}: {key} has {flat.size} numbers; get it anew")
        return flat.reshape(shape)

    def has(what: str, of: str) -> bool:
        return bool(entry(what, 1)[0] > 0) if what in label else of in label

    seen, found = entry("2d_joints", len(METRO_24), 3), entry("3d_joints", len(METRO_24), 4)
    found[:, 3] *= has("has_3d_joints", "3d_joints")
    seen[:, 2] *= has("has_2d_joints", "2d_joints")
    camera = entry("intrinsics", 3, 3) if "intrinsics" in label else None
    return {
        "keypoints_2d": seen[list(METRO_TO_EVALUATION)],
        "joints": found[list(METRO_TO_EVALUATION)],
        "pose": entry("pose", 72),
        "betas": entry("betas", 10),
        "has_smpl": float(has("has_smpl", "pose")),
        "square": [*entry("center", 2), 200 * float(entry("scale", 1)[0])],
        "camera": camera,
        "transl": entry("transl", 3),
        "gender": _gender(file, label.get("gender", "")),
        **_names(table, columns[0]),
    }


def _array(file: Path, key: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{file}: {key} holds no numbers; get the file anew") from None


def _gender(file: Path, label: Any) -> str:
    try:
        return gender_name(label)
    except BodyFileError as error:
        raise InputError(f"{file}: {error}") from None


def _names(table: Table, key: str) -> _Names:
    """Who, where and what, as far as a key tells: Human3.6M's tell all, others their sequence."""
    if match := H36M_KEY.search(key):
        return {"subject": match[1], "action": match[2], "scene": match[3]}
    sequence = key.rsplit("/", 1)[0] if "/" in key else table.path.stem
    return {"subject": sequence, "action": "", "scene": sequence}


def _pictures(table: Table, block: range) -> Iterator[Image]:
    for at in block:
        which, line = table.rows[at]
        image = table.images[which]
        yield decoded(image.row(line)[-1], f"{image.path} line {line}")


def decoded(text: str, where: str) -> Image:
    """Pixels of a base64 picture; `InputError` names where it stands."""
    try:
        content = base64.b64decode(text, validate=True)
        if len(content) > PHOTO_BYTES:
            raise ValueError("too large")
        with Pillow.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PHOTO_PIXELS:
                raise ValueError("too large")
            return np.asarray(image.convert("RGB"))
    except (binascii.Error, OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        raise InputError(f"{where} holds no picture that we read: get the file anew") from None


METRO_TSV = Reader(
    about="METRO's TSV files: the layout that METRO, FastMETRO and TORE train from",
    page="github.com/microsoft/MeshTransformer, docs/DOWNLOAD.md",
    licence="that of the sets inside; do not pass on",
    tree="*.yaml naming X.img.tsv, X.label.tsv, X.hw.tsv, X.linelist.tsv, each with .lineidx",
    box="the labeled center and scale",
    finds=lambda path: (
        path.is_dir() and bool(list(path.glob("*.yaml"))) and bool(list(path.glob("*.tsv")))
    ),
    sources=sources,
    camera="assumed: 5000 px at a crop of 224, as SPIN does",
)
