"""Elements of Z_2^r as bytes, r bits each, for any r up to 32.

A chunk is written as planes: the binary digits of r name their widths (20 = 16 + 4), and each plane
holds that many bits of every element, end to end. Whole arrays are shifted; no bit is looked at
alone.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt32

CHUNK = 2**15
Ring = UInt32[np.ndarray, " chunk"]
_WHOLE = {32: np.dtype("<u4"), 16: np.dtype("<u2"), 8: np.dtype("u1")}


def widths(bits: int) -> tuple[int, ...]:
    """Widths of the planes of an element, the lowest bits first."""
    assert 1 <= bits <= 32
    return tuple(width for width in (32, 16, 8, 4, 2, 1) if bits & width)


def chunk_lengths(num_elements: int) -> Iterator[int]:
    """Lengths of the chunks of a vector."""
    for start in range(0, num_elements, CHUNK):
        yield min(CHUNK, num_elements - start)


def packed_size(num_elements: int, bits: int) -> int:
    """Bytes of a vector; each chunk ends on a whole byte a plane."""
    return sum(_chunk_size(length, bits) for length in chunk_lengths(num_elements))


def _chunk_size(length: int, bits: int) -> int:
    return sum(-(-length * width // 8) for width in widths(bits))


def pack(chunk: Ring, bits: int, out: memoryview) -> int:
    """Writes a chunk, the bits above r dropped; returns the bytes written."""
    shift = start = 0
    for width in widths(bits):
        plane = _narrow(chunk >> np.uint32(shift) if shift else chunk, width)
        size = plane.nbytes
        out[start : start + size] = plane.data.cast("B")
        shift, start = shift + width, start + size
    return start


def unpack(data: memoryview, length: int, bits: int) -> tuple[Ring, int]:
    """A chunk of that many elements from the front of some bytes, and the bytes read."""
    chunk, shift, start = np.zeros(length, dtype=np.uint32), 0, 0
    for width in widths(bits):
        size = -(-length * width // 8)
        plane = _widen(data[start : start + size], length, width).astype(np.uint32, copy=False)
        chunk |= plane << np.uint32(shift) if shift else plane
        shift, start = shift + width, start + size
    return chunk, start


def _narrow(values: Ring, width: int) -> np.ndarray:
    """The lowest bits of every value, as whole numbers or as several a byte."""
    if width in _WHOLE:
        return values.astype(_WHOLE[width])
    each = 8 // width
    small = np.zeros(-(-len(values) // each) * each, dtype=np.uint8)
    small[: len(values)] = values.astype(np.uint8) & np.uint8(2**width - 1)
    packed = small[0::each].copy()
    for place in range(1, each):
        packed |= small[place::each] << np.uint8(width * place)
    return packed


def _widen(data: memoryview, length: int, width: int) -> np.ndarray:
    """The inverse of `_narrow`."""
    if width in _WHOLE:
        return np.frombuffer(data, dtype=_WHOLE[width])
    each, packed = 8 // width, np.frombuffer(data, dtype=np.uint8)
    small = np.empty(len(packed) * each, dtype=np.uint8)
    for place in range(each):
        small[place::each] = packed >> np.uint8(width * place) & np.uint8(2**width - 1)
    return small[:length]
