"""Stored JPEG crops as pixels: their size is read before their content, and decoded without copies.

Pixels are those that Pillow gives, in a third of its time; Pillow decodes where torchvision was
built without its codec.
"""

import io
import warnings

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a header that tells a picture's size."""


def decoded(data: bytes, side: int) -> UInt8[Tensor, "3 side side"]:
    """RGB of a square JPEG crop.

    Raises:
        ValueError: It is no JPEG of this size, or damaged.
    """
    if _size(data) != (side, side):
        raise ValueError(f"no JPEG of {side} x {side} pixels")
    try:
        return _by_torchvision(data)
    except RuntimeError:
        return _by_pillow(data)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header says; None where there is none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in FRAMES:
            height, width = (int.from_bytes(data[at + k : at + k + 2]) for k in (5, 7))
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _by_torchvision(data: bytes) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bytes are only read
        raw = torch.frombuffer(data, dtype=torch.uint8)
    decoded = decode_jpeg(raw, mode=ImageReadMode.RGB)
    assert isinstance(decoded, Tensor)
    return decoded


def _by_pillow(data: bytes) -> Tensor:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError("damaged JPEG") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
