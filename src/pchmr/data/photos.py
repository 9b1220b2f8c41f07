"""Photos from files that nobody vouches for.

Formats are an allow-list, sizes are capped before anything is decoded, and every failure is one
`InputError` line. Nothing here finds a person, reads a video (`pchmr.data.videos`) or lists a
folder (`pchmr.data.pictures`).
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import ExifTags, Image, features

from pchmr.data.errors import InputError
from pchmr.data.exif import FocalLength, focal_length
from pchmr.data.orientation import EXIF_ORIENTATIONS, Orientation

PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".tif", ".tiff")
HEIF_SUFFIXES = (".heic", ".heif")
NEEDS_HEIF = "pip install 'pchmr[heic]'"
MIN_SIDE = 16
MAX_PHOTO_BYTES = 64 * 2**20
MAX_PHOTO_PIXELS = 50_000_000
BAND_PIXELS = 2**20  # pixels converted at a time, so that a photo lies in memory twice at most


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo as it was read.

    Attributes:
        pixels: Upright RGB; transparency lies on white.
        focal: From EXIF, None where it tells none.
        note: What a user should know about the reading; may be empty.
    """

    pixels: UInt8[ndarray, "height width 3"]
    focal: FocalLength | None
    note: str


def reads_heif() -> bool:
    """Whether the extra for HEIC is installed."""
    return find_spec("pillow_heif") is not None


def photo_suffixes() -> tuple[str, ...]:
    """Suffixes of the photos that are read here; AVIF and HEIC as far as installed."""
    avif = (".avif",) if features.check("avif") else ()
    return (*SUFFIXES, *avif, *(HEIF_SUFFIXES if reads_heif() else ()))


def load_photo(path: Path) -> UInt8[ndarray, "height width 3"]:
    """Upright RGB pixels of a photo; see `read_photo`."""
    return read_photo(path).pixels


def exif_focal_length(path: Path) -> float | None:
    """Focal length of a photo in pixels by its EXIF; None where it tells none."""
    with _opened(path) as image:
        focal = _focal(image)
    return None if focal is None else focal.pixels


def read_photo(path: Path) -> Photo:
    """A photo with what its file tells of the camera.

    Animated pictures give their first frame, 16 bits a channel the upper 8; JPEG, PNG, WEBP and
    TIFF always, AVIF and HEIC where installed.

    Raises:
        InputError: Missing, of another format, damaged, too large or too small.
    """
    with _opened(path) as image:
        _require_size(path, *image.size)
        image.load()
        if image.mode in ("I", "F"):
            raise InputError(f"photo {path} has 32 bits a channel: save it with 8")
        tag = image.getexif().get(ExifTags.Base.Orientation)
        orientation = EXIF_ORIENTATIONS.get(tag, Orientation()) if isinstance(tag, int) else None
        pixels = _pixels(image, orientation or Orientation())
        return Photo(pixels=pixels, focal=_focal(image), note=_note(path, image))


def _pixels(image: Image.Image, orientation: Orientation) -> UInt8[ndarray, "height width 3"]:
    """Upright RGB, converted band by band."""
    width, height = image.size
    shape = (width, height) if orientation.swap else (height, width)
    upright = np.empty((*shape, 3), dtype=np.uint8)
    stored = orientation.stored(upright)
    rows = max(BAND_PIXELS // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = _rgb(image.crop((0, top, width, bottom)))
    return upright


def _rgb(band: Image.Image) -> UInt8[ndarray, "height width 3"]:
    if band.mode.startswith("I;16"):
        gray = (np.asarray(band) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    if band.has_transparency_data:
        white = Image.new("RGBA", band.size, "white")
        band = Image.alpha_composite(white, band.convert("RGBA"))
    return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _focal(image: Image.Image) -> FocalLength | None:
    return focal_length(image.getexif().get_ifd(ExifTags.IFD.Exif), *image.size)


def _note(path: Path, image: Image.Image) -> str:
    count = getattr(image, "n_frames", 1)
    if count < 2 or image.format in ("MPO", "HEIF"):
        return ""
    return f"{path} holds {count} pictures: the first is read"


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file, checked and not yet decoded; what goes wrong inside is one line."""
    content = read_file(path, MAX_PHOTO_BYTES)
    if reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()
    with _one_line(path):
        Image.open(io.BytesIO(content), formats=_formats()).verify()
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            yield image  # a new one: verify() leaves an image that cannot be decoded


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in PHOTO_FORMATS if name in Image.OPEN)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged or hostile file into one `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as error:  # decoders raise anything at all on damaged files
        raise InputError(
            f"cannot read photo {path}: it is damaged or {_unread(path)} "
            f"({type(error).__name__}); save it again as JPEG"
        ) from None


def _unread(path: Path) -> str:
    if path.suffix.lower() in HEIF_SUFFIXES and not reads_heif():
        return f"needs {NEEDS_HEIF}"
    return "no JPEG, PNG, WEBP, TIFF, AVIF or HEIC"


def _too_large(path: Path) -> InputError:
    return InputError(
        f"photo {path} has more than {MAX_PHOTO_PIXELS // 10**6} million pixels: shrink it"
    )


def _require_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PHOTO_PIXELS:
        raise _too_large(path)
    require_usable(path, width, height)


def read_file(path: Path, max_bytes: int) -> bytes:
    """The whole of a file of limited size; raises like `require_file`."""
    require_file(path, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None


def require_file(path: Path, max_bytes: int) -> None:
    """Refuses what is no file, or a file that is too large to open.

    Raises:
        InputError: It is missing, a folder, or larger than `max_bytes`.
    """
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


def require_usable(path: Path, width: int, height: int) -> None:
    """Refuses pictures too small to see a person in.

    Raises:
        InputError: A side is shorter than `MIN_SIDE`.
    """
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path} is {width} x {height} pixels, too small to see a person in: "
            f"give at least {MIN_SIDE} on each side"
        )
