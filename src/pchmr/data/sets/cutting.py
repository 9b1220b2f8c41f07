"""From a part of a set to rows of the imported folder: crops, and labels as seen from them.

People that cannot be used are counted by reason. Nothing here knows a data set or writes a file.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray

from pchmr.data.crops import MAX_BOX_RATIO, MIN_BOX_SIDE, Square, crop, crop_intrinsics
from pchmr.data.errors import InputError
from pchmr.data.sets.folder import margin_of
from pchmr.data.sets.part import TEXTS, Image, Part
from pchmr.data.sets.placing import FLAGS, Bodies, every, place
from pchmr.data.synthetic.sensor import encode

OUTSIDE, UNUSABLE = "outside of the picture, or too small", "labels that give no square"
DAMAGED, RESIZED = "picture damaged", "picture of another size than its labels"
BAD_FIT = "mesh not used: its joints are more than {:g} mm off"
LONGEST, DIGEST = 96, 12
"""Bytes of a word, and letters of the hash that ends a longer one."""


@dataclass(frozen=True)
class Cut:
    """What became of a part.

    Attributes:
        columns: Of the rows whose crops were put.
        left_out: People that are not rows, and meshes that are not used, by reason.
        fault: What was wrong with the first damaged one; empty where none was.
    """

    columns: dict[str, ndarray]
    left_out: Counter[str]
    fault: str


def cut(part: Part, bodies: Bodies, image_size: int, put: Callable[[bytes], None]) -> Cut:
    """Cuts the people of a part out of their pictures.

    Args:
        part: As it was read.
        bodies: That make the truth.
        image_size: Side of the crops in pixels.
        put: Takes the crops as JPEG, one after another.
    """
    left_out, fault = Counter(part.left_out), part.fault
    if not len(part):
        return Cut({}, left_out, fault)
    arrays = place(part, bodies)
    if part.most_fit_mm is not None:
        bad = part.has_smpl & ~arrays["has_smpl"]
        left_out[BAD_FIT.format(part.most_fit_mm)] += int(bad.sum())
    usable, kept = every(np.isfinite(arrays["square"])), []
    for row, picture in enumerate(part.pictures()):
        square = Square(*arrays["square"][row].tolist())
        if isinstance(picture, InputError):
            left_out[DAMAGED] += 1
            fault = fault or str(picture)
        elif not usable[row]:
            left_out[UNUSABLE] += 1
        elif words := _other_size(part, row, picture):
            left_out[RESIZED] += 1
            fault = fault or words
        elif not _is_seen(square, picture):
            left_out[OUTSIDE] += 1
        else:
            put(_jpeg(picture, square, image_size))
            kept.append(row)
    rows = np.array(kept, dtype=np.int64)
    own = {name: values[rows] for name, values in arrays.items()}
    columns = _stored(own, part, rows, image_size) if kept else {}
    return Cut(columns, +left_out, fault)


def _other_size(part: Part, row: int, picture: Image) -> str:
    """What is wrong with a picture that was resized or turned; nothing of others."""
    if part.size is None:
        return ""
    found, wanted = np.array(picture.shape[1::-1]), part.size[row]
    off = np.abs(found - wanted) - part.size_tolerance * wanted
    if not (off > 0).any():  # nothing is known of a size of NaN
        return ""
    clip, frame = part.texts["clip"][row], part.frame[row]
    sizes = "{:.0f} x {:.0f} px, its labels are of {:.0f} x {:.0f}".format(*found, *wanted)
    return f"picture {frame} of {clip} is {sizes}: get the pictures as they are published"


def _is_seen(square: Square, picture: Image) -> bool:
    """Whether a square shows enough of the picture to be of use."""
    height, width = picture.shape[:2]
    left, top, right, bottom = square.bbox_xyxy
    seen = (min(right, width) - max(left, 0.0), min(bottom, height) - max(top, 0.0))
    return (
        min(seen) > 0
        and max(seen) >= MIN_BOX_SIDE
        and (square.side <= MAX_BOX_RATIO * max(width, height))
    )


def _jpeg(picture: Image, square: Square, image_size: int) -> bytes:
    """JPEG of the square and its margin; its middle is the crop, pixel for pixel."""
    stored = image_size + 2 * margin_of(image_size)
    wide = Square(square.x, square.y, square.side * stored / image_size)
    pixels = (crop(picture, wide, stored) * 255).round().byte()
    return encode(pixels.permute(1, 2, 0).numpy())


def _stored(
    arrays: Mapping[str, ndarray], part: Part, rows: ndarray, image_size: int
) -> dict[str, ndarray]:
    """Columns of the kept rows: labels as seen from their crops, texts as letters."""
    square = arrays["square"]
    scale = image_size / square[:, 2]
    corner = square[:, :2] - square[:, 2:] / 2
    seen = arrays["keypoints_2d"].copy()
    places = (seen[..., :2] - corner[:, None]) * scale[:, None, None]
    seen[..., :2] = 2 * places / image_size - 1
    seen[..., 2] *= (np.abs(seen[..., :2]) <= 1).all(axis=-1)
    cameras = [
        crop_intrinsics(torch.from_numpy(camera), Square(*place.tolist()), image_size).numpy()
        for camera, place in zip(arrays["intrinsics"], square, strict=True)
    ]
    changed = {**arrays, "keypoints_2d": seen, "intrinsics": np.stack(cameras)}
    columns: dict[str, ndarray] = {
        name: values.astype(np.uint8 if name in FLAGS else np.float32)
        for name, values in changed.items()
    }
    columns["frame"] = part.frame[rows].astype(np.int64)
    return columns | {name: _letters(part.texts[name][rows]) for name in TEXTS}


def _letters(words: ndarray) -> ndarray:
    """Words as UTF-8 bytes of one width; they become numbers when all are known."""
    encoded = [_short(word) for word in words.tolist()]
    return np.array([list(word.ljust(LONGEST, b"\0")) for word in encoded], dtype=np.uint8)


def _short(word: str) -> bytes:
    """A word, its end replaced by a hash where it is too long: other words stay other words."""
    whole = word.encode()
    if len(whole) <= LONGEST:
        return whole
    start = whole[: LONGEST - DIGEST - 1].decode("utf-8", "ignore").encode()
    return start + b"~" + hashlib.sha256(whole).hexdigest()[:DIGEST].encode()
