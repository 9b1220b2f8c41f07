"""Frames of a video as a library in C decodes them; runs in a confined process, see `confined`.

A demuxer is forced, sizes and lengths are capped. Nothing here turns or mirrors a frame or makes
sense of its time: that is `pchmr.data.videos`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.door.files import FileError

WIDEST_PIXEL = 4.0
"""Width over height of a pixel; what is stranger is taken for square."""


def frames(
    path: Path, *, demuxer: str, most_pixels: int, most_frames: int
) -> Iterator[dict[str, ndarray]]:
    """First `size` (width, height) and `rate` of the stream, then a record of each frame.

    A frame has `image`, RGB with square pixels as it is stored; `time` in seconds, NaN where it
    has no stamp; and `matrix`, the bytes of its display matrix, empty where it has none.

    Args:
        path: Of the file.
        demuxer: Of libav, so that a playlist in disguise opens nothing.
        most_pixels: Of a frame.
        most_frames: Of the video.

    Raises:
        FileError: It is damaged, too large, too long, or holds no video.
    """
    import av

    options = {"protocol_whitelist": "file"}
    try:
        with av.open(
            str(path), format=demuxer, options=options, metadata_errors="ignore"
        ) as container:
            stream = _checked(path, container, most_pixels, most_frames)
            size = np.array([stream.width, stream.height], dtype=np.int64)
            yield {"size": size, "rate": np.array(float(stream.average_rate or 0))}
            aspect = float(stream.sample_aspect_ratio or 1)
            count = 0
            for count, frame in enumerate(container.decode(video=0), start=1):
                _require_short(path, count, most_frames)
                if frame.width * frame.height > most_pixels:
                    raise FileError(path, "its frames grow over 4K: scale it to 4K or less")
                yield _record(frame, aspect)
            if not count:
                raise ValueError("no frame")
    except FileError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        kind = type(error).__name__
        what = f"it is damaged or not what its name says ({kind}); convert it to .mp4"
        raise FileError(path, what) from None


def _checked(path: Path, container: Any, most_pixels: int, most_frames: int) -> Any:
    """The first video stream."""
    if not container.streams.video:
        raise FileError(path, "it holds no video stream: give another file")
    stream = container.streams.video[0]
    if stream.width * stream.height > most_pixels:
        raise FileError(
            path,
            f"its frames have {stream.width} x {stream.height} pixels: scale it to 4K or less",
        )
    _require_short(path, stream.frames, most_frames)
    return stream


def _require_short(path: Path, num_frames: int, most_frames: int) -> None:
    if num_frames > most_frames:
        raise FileError(path, f"it has more than {most_frames} frames: cut it into pieces")


def _record(frame: Any, aspect: float) -> dict[str, ndarray]:
    width, height = _square(frame, aspect)
    matrix = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), b"")
    return {
        "image": frame.to_ndarray(format="rgb24", width=width, height=height),
        "time": np.array(np.nan if frame.time is None else frame.time),
        "matrix": np.frombuffer(bytes(matrix), dtype=np.uint8),
    }


def _square(frame: Any, aspect: float) -> tuple[int, int]:
    """Width and height that show the frame in square pixels, none fewer than it has."""
    if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        aspect = 1.0
    return round(frame.width * max(aspect, 1)), round(frame.height / min(aspect, 1))
