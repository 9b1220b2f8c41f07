"""Frames of videos that nobody vouches for: upright, with square pixels, each with its time.

They are decoded in a process of their own, with limits on memory and time (`pchmr.door.videos`);
sizes and lengths are capped, and every failure is one `InputError` line. Sound, subtitles and
second streams are not read.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pchmr.data.errors import InputError
from pchmr.data.orientation import Orientation, of_matrix
from pchmr.data.photos import require_file, require_usable
from pchmr.door import FileError
from pchmr.door.confined import Limits, Record, stream

# Suffix to libav demuxer: the demuxer is forced, so a playlist in disguise opens nothing.
VIDEO_DEMUXERS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".3gp": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
}
MAX_VIDEO_BYTES = 2 * 2**30
MAX_FRAME_PIXELS = 4096 * 2304
MAX_FRAMES = 10_000
USUAL_RATE = 30.0  # frames a second where neither stamps nor the stream tell
DECODER = "pchmr.door.videos:frames"
LIMITS = Limits(cpu_seconds=3600)  # ten thousand large frames


def is_video(path: Path) -> bool:
    """Whether the suffix is that of a video we read."""
    return path.suffix.lower() in VIDEO_DEMUXERS


def video_frames(path: Path) -> Iterator[tuple[UInt8[ndarray, "height width 3"], float]]:
    """Upright RGB frames of a video in order, and when each is shown, in seconds from the first.

    Times rise strictly: a frame without a stamp, or with one that does not, follows the one before
    at the stream's rate. The file is checked before the first frame is asked for.

    Raises:
        InputError: PyAV is missing, or the file is missing, damaged, too large or too long.
    """
    if find_spec("av") is None:
        raise InputError(
            f"cannot read video {path}: PyAV is missing; install it with `pip install pchmr[video]`"
        )
    require_file(path, MAX_VIDEO_BYTES)
    demuxer = VIDEO_DEMUXERS.get(path.suffix.lower())
    if demuxer is None:
        known = ", ".join(VIDEO_DEMUXERS)
        raise InputError(f"{path} is no video we read: convert it to one of {known}")
    records = _decoded(path, demuxer)
    about = next(records)
    require_usable(path, *about["size"].tolist())
    return _timed(records, float(about["rate"]) or USUAL_RATE)


def _decoded(path: Path, demuxer: str) -> Iterator[Record]:
    caps = {"most_pixels": MAX_FRAME_PIXELS, "most_frames": MAX_FRAMES}
    try:
        yield from stream(DECODER, path.resolve(), LIMITS, demuxer=demuxer, **caps)
    except FileError as error:
        raise InputError(f"cannot read video {path}: {error.reason}") from None


def _timed(records: Iterator[Record], rate: float) -> Iterator[tuple[np.ndarray, float]]:
    """Upright frames and strictly rising times that start at zero."""
    first, last = None, -math.inf
    for record in records:
        stamp = float(record["time"])
        if first is None:
            first, time = 0.0 if math.isnan(stamp) else stamp, 0.0
        else:
            time = -math.inf if math.isnan(stamp) else stamp - first
            time = time if time > last else last + 1 / rate
        last = time
        yield _upright(record), time


def _upright(record: Record) -> UInt8[ndarray, "height width 3"]:
    """The frame mirrored and turned as the recording device says."""
    matrix = record["matrix"].tobytes()
    orientation = of_matrix(matrix) if matrix else Orientation()
    return np.ascontiguousarray(orientation.upright(record["image"]))
