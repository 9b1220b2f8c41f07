"""Frames of videos that nobody vouches for: upright, with square pixels, each with its time.

A demuxer is forced by the suffix, sizes and lengths are capped, and every failure is one
`InputError` line. Sound, subtitles and second streams are not read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pchmr.data.errors import InputError
from pchmr.data.orientation import Orientation, of_matrix
from pchmr.data.photos import require_file, require_usable

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
WIDEST_PIXEL = 4.0  # width over height of a pixel; what is stranger is taken for square


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
    try:
        import av
    except ImportError:
        raise InputError(
            f"cannot read video {path}: PyAV is missing; install it with `pip install pchmr[video]`"
        ) from None
    require_file(path, MAX_VIDEO_BYTES)
    demuxer = VIDEO_DEMUXERS.get(path.suffix.lower())
    if demuxer is None:
        known = ", ".join(VIDEO_DEMUXERS)
        raise InputError(f"{path} is no video we read: convert it to one of {known}")
    try:
        container = av.open(
            str(path),
            format=demuxer,
            options={"protocol_whitelist": "file"},
            metadata_errors="ignore",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    try:
        _check_stream(path, container)
    except InputError:
        container.close()
        raise
    return _timed(path, container)


def _check_stream(path: Path, container: Any) -> None:
    if not container.streams.video:
        raise InputError(f"{path} holds no video stream: give another file")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        raise InputError(
            f"frames of {path} have {stream.width} x {stream.height} pixels: scale it to 4K or less"
        )
    require_usable(path, stream.width, stream.height)
    _require_short(path, stream.frames)


def _require_short(path: Path, num_frames: int) -> None:
    if num_frames > MAX_FRAMES:
        raise InputError(f"{path} has more than {MAX_FRAMES} frames: cut it into pieces")


def _timed(path: Path, container: Any) -> Iterator[tuple[np.ndarray, float]]:
    """Frames and strictly rising times that start at zero."""
    rate = float(container.streams.video[0].average_rate or USUAL_RATE)
    aspect = float(container.streams.video[0].sample_aspect_ratio or 1)
    first, last = None, -math.inf
    for frame in _decoded(path, container):
        stamp = frame.time
        if first is None:
            first, time = stamp or 0.0, 0.0
        else:
            time = -math.inf if stamp is None else stamp - first
            time = time if time > last else last + 1 / rate
        last = time
        yield _upright(frame, aspect), time


def _decoded(path: Path, container: Any) -> Iterator[Any]:
    import av

    num_frames = 0
    with container:
        try:
            for frame in container.decode(video=0):
                num_frames += 1
                _require_short(path, num_frames)
                if frame.width * frame.height > MAX_FRAME_PIXELS:
                    raise InputError(f"frames of {path} grow over 4K: scale it to 4K or less")
                yield frame
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, error) from None
    if not num_frames:
        raise _damaged(path, ValueError())


def _upright(frame: Any, aspect: float) -> np.ndarray:
    """RGB with square pixels, mirrored and turned as the recording device says."""
    width, height = _square(frame, aspect)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(_orientation(frame).upright(pixels))


def _square(frame: Any, aspect: float) -> tuple[int, int]:
    """Width and height that show the frame in square pixels, none fewer than it has."""
    if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        aspect = 1.0
    return round(frame.width * max(aspect, 1)), round(frame.height / min(aspect, 1))


def _orientation(frame: Any) -> Orientation:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return of_matrix(bytes(data))
    return Orientation()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read video {path}: it is damaged or not what its name says "
        f"({type(error).__name__}); convert it to .mp4"
    )
