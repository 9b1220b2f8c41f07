"""METRO's TSV files: pictures, boxes, 24 joints and SMPL parameters of several sets in one layout.

FastMETRO and TORE read them too. A YAML names the files; `composite: true` strings several
together. The layout has no camera: where a row has none of ours (`metro_writer.py`), one of a long
lens is assumed. Of a row's joints the 14 of the protocol are taken.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from PIL import Image as Pillow

from pchmr.body.files import BodyFileError, gender_name
from pchmr.body.joints import EVALUATION_14, METRO_24, METRO_TO_EVALUATION
from pchmr.data.errors import InputError
from pchmr.data.photos import MAX_PHOTO_PIXELS
from pchmr.data.sets.metro_tables import Table, Taken, read_table, yamls
from pchmr.data.sets.part import (
    DAMAGED_LABEL,
    UNKNOWN_FRAME,
    Image,
    Part,
    Reader,
    ReadOptions,
    Source,
    numbers,
    protocol_of,
    split_of,
    texts,
)
from pchmr.door import parse_json
from pchmr.door.limits import PHOTO_BYTES

BLOCK = 256
H36M_KEY = re.compile(r"(S\d+)_([A-Za-z]+)(?:[ _]\d+)?\.(\d{8})")
OWN_WORDS = ("subject", "scene", "sequence", "action", "clip", "protocol")
"""Keys of labels that our writer adds; other readers pass over them."""


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """Blocks of rows of every YAML of a folder, or of one; a row that several name comes once."""
    found, taken = [], Taken({})
    root = path if path.is_dir() else path.parent
    for file in yamls(path):
        table, twice = taken.without_others(read_table(file, root))
        rows = range(0, len(table.rows), options.every or 1)
        for start in range(0, len(rows), BLOCK):
            read = partial(_read, table, rows[start : start + BLOCK], 0 if start else twice)
            found.append(Source(f"{file.relative_to(root).with_suffix('')} {start}", read))
    if not found:
        raise InputError(f"{path} holds no .yaml of METRO's TSV files: give the folder or the file")
    return found


def _read(table: Table, block: range, twice: int) -> Part:
    found, lines, fault = [], [], ""
    for at in block:
        try:
            found.append(_row(table, *table.rows[at]))
            lines.append(at)
        except InputError as error:
            fault = fault or str(error)
    count = len(found)

    def stack(name: str, *shape: int) -> np.ndarray:
        return np.array([row[name] for row in found], dtype=np.float64).reshape(count, *shape)

    has_camera = bool(found) and all(row["camera"] is not None for row in found)
    pose = stack("pose", 72)
    words = {name: [row["words"][name] for row in found] for name in OWN_WORDS}
    return Part(
        texts=texts(
            count, split=split_of(table.path.stem), gender=[r["gender"] for r in found], **words
        ),
        frame=stack("frame").astype(np.int64),
        pictures=lambda: _pictures(table, lines),
        global_orient=pose[:, :3],
        body_pose=pose[:, 3:].reshape(-1, 23, 3),
        betas=stack("betas", 10),
        transl=stack("transl", 3) if has_camera else None,
        has_smpl=stack("has_smpl") > 0,
        intrinsics=np.array([row["camera"] for row in found]) if has_camera else None,
        square=stack("square", 3),
        joints=stack("joints", len(EVALUATION_14), 4),
        keypoints_2d=stack("keypoints_2d", len(EVALUATION_14), 3),
        left_out={DAMAGED_LABEL: len(block) - count, "listed by several YAMLs": twice},
        fault=fault,
    )


class _Person(TypedDict):
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
    frame: int
    words: dict[str, str]


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
        "frame": _frame(label.get("frame")),
        "words": _words(table, columns[0], label),
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


def _frame(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else UNKNOWN_FRAME


def _words(table: Table, key: str, label: Mapping[str, Any]) -> dict[str, str]:
    """Who, where and what: as labels of ours say, else as far as a key tells.

    Human3.6M's keys tell all, others their sequence.
    """
    if match := H36M_KEY.search(key):
        subject, action, scene = match[1], match[2], match[3]
    else:
        subject = scene = key.rsplit("/", 1)[0] if "/" in key else table.path.stem
        action = ""
    found = {
        "subject": subject,
        "scene": scene,
        "sequence": scene,
        "action": action,
        "clip": f"{table.path.stem} {scene} {subject}",
        "protocol": protocol_of(table.path, split_of(table.path.stem)),
    }
    return found | {name: label[name] for name in OWN_WORDS if isinstance(label.get(name), str)}


def _pictures(table: Table, lines: Sequence[int]) -> Iterator[Image | InputError]:
    for at in lines:
        which, line = table.rows[at]
        image = table.images[which]
        try:
            yield decoded(image.row(line)[-1], f"{image.path} line {line}")
        except InputError as error:
            yield error


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
