"""Safetensors files: the header is checked against the file before the library sees it."""

import math
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from pchmr.door.files import opened, refusing
from pchmr.door.limits import MAPPED_BYTES, TENSOR_HEADER_BYTES, TENSORS_BYTES
from pchmr.door.text import Json, parse_json

METADATA = "__metadata__"
WIDTHS = {
    **dict.fromkeys(("F64", "I64"), 8),
    **dict.fromkeys(("F32", "I32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}
"""Bytes of a number by type."""
NUMPY_KINDS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Types that NumPy knows too."""


def read_tensors(
    path: Path,
    *,
    framework: str = "pt",
    most_bytes: int = TENSORS_BYTES,
    sha256: str | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors by name, and the file's own metadata.

    Args:
        path: Of the file.
        framework: "pt" for torch, "numpy" for arrays.
        most_bytes: Of the file.
        sha256: Hash that the file must have.

    Raises:
        FileError: It is no safetensors file, or its header does not agree with it.
    """
    with opened(path, most_bytes, sha256) as file:
        _header(file)
    with refusing(path), safe_open(path, framework=framework) as file:  # pyright: ignore[reportArgumentType]
        metadata = file.metadata() or {}
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def _check_header(header: Any, num_bytes: int) -> None:
    """Every byte belongs to exactly one tensor, whose shape needs just these."""
    if not isinstance(header, dict):
        raise ValueError("header is no object")
    spans = [_span(name, about) for name, about in header.items() if name != METADATA]
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise ValueError("tensors that overlap or leave a gap")
        end = stop
    if end != num_bytes:
        raise ValueError("truncated: header and file do not agree")


def _span(name: str, about: Any) -> tuple[int, int]:
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name} is not described")
    width, shape, span = WIDTHS.get(str(about["dtype"])), about["shape"], about["data_offsets"]
    if width is None:
        raise ValueError(f"tensor {name} of a type that we do not read")
    for numbers in (shape, span):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"tensor {name} is not described")
    if len(span) != 2 or span[1] - span[0] != width * math.prod(shape):
        raise ValueError(f"tensor {name} whose bytes do not fit its shape")
    if width * math.prod(max(n, 1) for n in shape) > TENSORS_BYTES:
        raise ValueError(f"tensor {name} of a shape that is too large")
    return span[0], span[1]


def mapped_tensors(path: Path, *, most_bytes: int = MAPPED_BYTES) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file by name, left on disk until they are looked at.

    Raises:
        FileError: It is no safetensors file, or its header does not agree with it.
    """
    with opened(path, most_bytes) as file:
        header, start = _header(file)
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    found = {}
    with refusing(path):
        for name, about in header.items():
            if name == METADATA:
                continue
            first, last = about["data_offsets"]
            kind = np.dtype(NUMPY_KINDS[about["dtype"]])
            found[name] = whole[start + first : start + last].view(kind).reshape(about["shape"])
    return found


def _header(file: BufferedIOBase) -> tuple[Json, int]:
    """The checked header of a file, and where its tensors begin."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, TENSOR_HEADER_BYTES):
        raise ValueError("truncated or no safetensors file")
    header = parse_json(file.read(length).decode("utf-8"))
    _check_header(header, size - 8 - length)
    return header, 8 + length
