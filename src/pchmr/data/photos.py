"""Photos and video frames from files that nobody vouches for.

Formats are an allow-list, sizes are capped before anything is decoded, and every failure is one
`InputError` line. Nothing here finds a person: see `pchmr.inference`.
"""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from pchmr.data.errors import InputError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Suffix to libav demuxer: the demuxer is forced, so a playlist in disguise opens nothing.
VIDEO_DEMUXERS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
}
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP")
MIN_SIDE = 16
MAX_PHOTO_BYTES = 64 * 2**20
MAX_PHOTO_PIXELS = 50_000_000
MAX_VIDEO_BYTES = 2 * 2**30
MAX_FRAME_PIXELS = 4096 * 2304
MAX_FRAMES = 10_000
DIAGONAL_35MM = 43.27  # mm, of the 36 x 24 mm frame that equivalent focal lengths refer to

Image.MAX_IMAGE_PIXELS = MAX_PHOTO_PIXELS


def is_video(path: Path) -> bool:
    """Whether the suffix is that of a video we read."""
    return path.suffix.lower() in VIDEO_DEMUXERS


def list_photos(folder: Path) -> list[Path]:
    """Photos of a folder by suffix, sorted by name; other files, hidden ones and sub-folders not.

    Raises:
        InputError: There is no photo.
    """
    photos = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file() and path.name[0] != "."
    )
    if not photos:
        known = ", ".join(PHOTO_SUFFIXES)
        raise InputError(f"no photo in folder {folder}: put files ending in {known} there")
    return photos


def load_photo(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """Upright RGB pixels of a JPEG, PNG or WEBP file; transparency lies on white.

    Raises:
        InputError: Missing, of another format, damaged, too large or too small.
    """
    content = _read(path)
    with _one_line(path):
        _open(content).verify()
        image = _open(content)  # verify() leaves an image that cannot be decoded
        image.load()
        if image.mode.startswith(("I", "F")):
            raise InputError(f"photo {path} has 16 or more bits a channel: save it with 8")
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        pixels = np.asarray(image.convert("RGB"))
    _require_usable(path, pixels.shape[1], pixels.shape[0])
    return pixels


def exif_focal_length(path: Path) -> float | None:
    """Focal length in pixels from the photo's 35 mm equivalent; None where the file has none."""
    content = _read(path)
    with _one_line(path):
        image = _open(content)
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    try:
        equivalent_mm = float(tags.get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    diagonal = math.hypot(*image.size)
    return equivalent_mm / DIAGONAL_35MM * diagonal if 1 < equivalent_mm < 5000 else None


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=PHOTO_FORMATS)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged or hostile file into one `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(
            f"photo {path} has more than {MAX_PHOTO_PIXELS // 10**6} million pixels: shrink it"
        ) from None
    except Exception as error:  # decoders raise anything at all on damaged files
        raise InputError(
            f"cannot read photo {path}: it is damaged or no JPEG, PNG or WEBP "
            f"({type(error).__name__}); save it again as JPEG"
        ) from None


def _read(path: Path) -> bytes:
    _require_file(path, MAX_PHOTO_BYTES)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None


def _require_file(path: Path, max_bytes: int) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path")
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a photo, a folder of photos or a video")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(
            f"{path} has {size / 2**20:.0f} MiB, more than the {max_bytes / 2**20:.0f} MiB "
            "we open: make it smaller"
        )


def _require_usable(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path} is {width} x {height} pixels, too small to see a person in: "
            f"give at least {MIN_SIDE} on each side"
        )


def video_frames(path: Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Upright RGB frames of a video, in order; the file is checked before the first is asked for.

    Raises:
        InputError: PyAV is missing, or the file is missing, damaged, too large or too long.
    """
    try:
        import av
    except ImportError:
        raise InputError(
            f"cannot read video {path}: PyAV is missing; install it with `pip install pchmr[video]`"
        ) from None
    _require_file(path, MAX_VIDEO_BYTES)
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
    return _decode(path, container)


def frame_rate(path: Path) -> float | None:
    """Mean frames per second of a video that `video_frames` reads; None where it tells none."""
    import av

    demuxer, options = VIDEO_DEMUXERS[path.suffix.lower()], {"protocol_whitelist": "file"}
    with av.open(str(path), format=demuxer, options=options, metadata_errors="ignore") as container:
        rate = container.streams.video[0].average_rate
    return float(rate) if rate else None


def _check_stream(path: Path, container: Any) -> None:
    if not container.streams.video:
        raise InputError(f"{path} holds no video stream: give another file")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        raise InputError(
            f"frames of {path} have {stream.width} x {stream.height} pixels: scale it to 4K or less"
        )
    _require_usable(path, stream.width, stream.height)
    _require_short(path, stream.frames)


def _require_short(path: Path, num_frames: int) -> None:
    if num_frames > MAX_FRAMES:
        raise InputError(f"{path} has more than {MAX_FRAMES} frames: cut it into pieces")


def _decode(path: Path, container: Any) -> Iterator[np.ndarray]:
    import av

    num_frames = 0
    with container:
        try:
            for frame in container.decode(video=0):
                num_frames += 1
                _require_short(path, num_frames)
                if frame.width * frame.height > MAX_FRAME_PIXELS:
                    raise InputError(f"frames of {path} grow over 4K: scale it to 4K or less")
                yield _upright(frame)
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, error) from None
    if not num_frames:
        raise _damaged(path, ValueError())


def _upright(frame: Any) -> np.ndarray:
    """RGB pixels, turned as the recording phone says (libav counts counter-clockwise)."""
    quarter_turns = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read video {path}: it is damaged or not what its name says "
        f"({type(error).__name__}); convert it to .mp4"
    )
