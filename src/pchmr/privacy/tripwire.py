"""Canaries: marks in a client's data that must be found nowhere else, however they are encoded.

A canary is a texture patch, an array of numbers or a text. Bytes that left a client (messages,
logs, checkpoints, standard streams, temporary files) are searched for runs of sixteen bytes of any
encoding of it, at every offset, also inside compressed streams and in the low halves of numbers: a
piece of twenty bytes is found. What this cannot find: statistics of the data, which every update
holds, and an encoding that is not listed.
"""

import base64
import io
import json
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WINDOW, DISTINCT = 16, 8  # bytes that are compared, and how many differ in a window that tells
STRIDE = 4  # of the windows of a canary; those of what is searched begin everywhere
MIX = np.uint64(0x9E3779B97F4A7C15)
DEPTH = 2  # compressed streams in compressed streams
MOST_INFLATED = 1 << 26
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


@dataclass(frozen=True)
class Canary:
    """A mark.

    Attributes:
        name: For the finding.
        value: uint8 (height, width, 3), an array of floats, or a text.
    """

    name: str
    value: np.ndarray | str


def _as_file(kind: str) -> Callable[[np.ndarray], bytes]:
    def encode(image: np.ndarray) -> bytes:
        made = io.BytesIO()
        Image.fromarray(image).save(made, kind)
        return made.getvalue()

    return encode


def _planes(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _normalized(image: np.ndarray) -> np.ndarray:
    return (image / 255 - IMAGENET[0]) / IMAGENET[1]


def _json(digits: int | None) -> Callable[[np.ndarray], bytes]:
    def encode(values: np.ndarray) -> bytes:
        flat = values.astype(np.float64).ravel()
        told = flat if digits is None else flat.round(digits)
        return json.dumps(told.tolist())[1:-1].encode()

    return encode


IMAGES: dict[str, Callable[[np.ndarray], bytes]] = {
    "uint8 rows": lambda v: v.tobytes(),
    "uint8 planes": lambda v: _planes(v).tobytes(),
    "uint8 blue first": lambda v: np.ascontiguousarray(v[..., ::-1]).tobytes(),
    "float32 rows": lambda v: (v / 255).astype("<f4").tobytes(),
    "float32 planes": lambda v: _planes(v / 255).astype("<f4").tobytes(),
    "float16 rows": lambda v: (v / 255).astype("<f2").tobytes(),
    "float16 planes": lambda v: _planes(v / 255).astype("<f2").tobytes(),
    "float32 0 to 255": lambda v: v.astype("<f4").tobytes(),
    "float32 normalized rows": lambda v: _normalized(v).astype("<f4").tobytes(),
    "float32 normalized planes": lambda v: _planes(_normalized(v)).astype("<f4").tobytes(),
    "float16 normalized planes": lambda v: _planes(_normalized(v)).astype("<f2").tobytes(),
    "png": _as_file("PNG"),
    "jpeg": _as_file("JPEG"),
}
NUMBERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "float16": lambda v: v.astype("<f2").tobytes(),
    "float32": lambda v: v.astype("<f4").tobytes(),
    "float64": lambda v: v.astype("<f8").tobytes(),
    "float32 big-endian": lambda v: v.astype(">f4").tobytes(),
    "float64 big-endian": lambda v: v.astype(">f8").tobytes(),
    "json": _json(None),
    "json, float32": lambda v: _json(None)(v.astype(np.float32)),
    "json, four digits": _json(4),
}
TEXTS: dict[str, Callable[[str], bytes]] = {
    "utf-8": lambda v: v.encode(),
    "utf-16": lambda v: v.encode("utf-16-le"),
    "backward": lambda v: v[::-1].encode(),
    "percent": lambda v: urllib.parse.quote(v, safe="").encode(),
}
WRAPPERS: dict[str, Callable[[bytes], list[bytes]]] = {
    "as it is": lambda raw: [raw],
    "base64": lambda raw: [base64.b64encode(raw[phase:])[:-4] for phase in range(3)],
    "base64 for links": lambda raw: [base64.urlsafe_b64encode(raw[p:])[:-4] for p in range(3)],
    "hex": lambda raw: [raw.hex().encode()],
    "HEX": lambda raw: [raw.hex().upper().encode()],
}


def encodings(canary: Canary) -> dict[str, list[bytes]]:
    """Every way in which a canary is looked for."""
    value = canary.value
    if isinstance(value, str):
        forms = {name: encode(value) for name, encode in TEXTS.items()}
    else:
        known = IMAGES if value.dtype == np.uint8 else NUMBERS
        forms = {name: encode(value) for name, encode in known.items()}
    return {
        f"{canary.name}, {form}, {wrapper}": wrap(raw)
        for form, raw in forms.items()
        for wrapper, wrap in WRAPPERS.items()
    }


def _hashes(data: bytes) -> np.ndarray:
    """A number for the sixteen bytes at every place."""
    count = len(data) - WINDOW + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), WINDOW)
    pairs = np.ascontiguousarray(windows).view("<u8")
    return pairs[:, 0] * MIX ^ pairs[:, 1]


class Tripwire:
    """Looks for canaries in bytes."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        names: list[str] = []
        found: list[np.ndarray] = []
        self.num_encodings = 0
        for canary in canaries:
            for name, needles in encodings(canary).items():
                self.num_encodings += 1
                hashes = np.concatenate([_hashes(n)[_telling(n)][::STRIDE] for n in needles])
                names.append(name)
                found.append(hashes)
        self._names = names
        self._needles = np.concatenate(found)
        self._owners = np.repeat(np.arange(len(names)), [len(f) for f in found])
        order = np.argsort(self._needles, kind="stable")
        self._needles, self._owners = self._needles[order], self._owners[order]

    def search(self, data: bytes) -> set[str]:
        """Names of the canaries and encodings that are in some bytes."""
        return {name for piece in _views(data, DEPTH) for name in self._in(piece)}

    def search_files(self, folder: Path, leave_out: str = "") -> dict[str, set[str]]:
        """What is found in the files below a folder, but for one part of it, by path."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        kept = [p for p in paths if not leave_out or leave_out not in p.relative_to(folder).parts]
        found = {}
        for path in kept:
            name = str(path.relative_to(folder))
            found[name] = self.search(path.read_bytes() + b"\n" + name.encode())
        return {name: hits for name, hits in found.items() if hits}

    def _in(self, data: bytes) -> Iterator[str]:
        hashes = _hashes(data)
        places = np.searchsorted(self._needles, hashes).clip(max=len(self._needles) - 1)
        hit = self._needles[places] == hashes
        yield from (self._names[owner] for owner in np.unique(self._owners[places[hit]]))


def _telling(data: bytes) -> np.ndarray:
    """Which windows hold enough different bytes to be no chance."""
    if len(data) < WINDOW:
        return np.empty(0, dtype=bool)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), WINDOW)
    ordered = np.sort(windows, axis=1)
    return (np.diff(ordered, axis=1) != 0).sum(axis=1) + 1 >= DISTINCT


def _views(data: bytes, depth: int) -> Iterator[bytes]:
    """The bytes, the halves of four-byte numbers, and what compressed streams in them hold."""
    yield data
    for start in range(4):  # wherever numbers begin
        pairs = np.frombuffer(data[start : start + (len(data) - start) // 4 * 4], dtype="<u2")
        yield pairs[::2].tobytes()
    if depth:
        for inside in _inflated(data):
            yield from _views(inside, depth - 1)


OPENINGS: Mapping[bytes, int] = {
    b"\x1f\x8b\x08": 31,
    b"\x78\x01": 15,
    b"\x78\x9c": 15,
    b"\x78\xda": 15,
}


def _inflated(data: bytes) -> Iterator[bytes]:
    for opening, bits in OPENINGS.items():
        place = data.find(opening)
        while place >= 0:
            try:
                inside = zlib.decompressobj(bits).decompress(data[place:], MOST_INFLATED)
            except zlib.error:
                inside = b""
            if len(inside) >= WINDOW:
                yield inside
            place = data.find(opening, place + 1)
