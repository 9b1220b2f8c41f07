"""Frames of animated pictures (GIF, WebP, PNG) that nobody vouches for, each with its time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageSequence

from pchmr.data.errors import InputError
from pchmr.data.photos import MAX_PHOTO_BYTES, require_file, require_usable
from pchmr.data.videos import MAX_FRAME_PIXELS, MAX_FRAMES

FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
SHORTEST, USUAL = 0.02, 0.1  # seconds: viewers show what claims to be shorter for the usual time


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, or another picture that holds several frames."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return False
    if kind == "GIF":
        return True
    try:
        with Image.open(path, formats=(kind,)) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # a damaged picture is told where it is read
        return False


def animation_frames(path: Path) -> Iterator[tuple[UInt8[ndarray, "height width 3"], float]]:
    """RGB frames in order, and when each is shown, in seconds from the first.

    Transparent parts are white. The file is checked before the first frame is asked for.

    Raises:
        InputError: The file is missing, damaged, too large or too long.
    """
    require_file(path, MAX_PHOTO_BYTES)
    try:
        image = Image.open(path, formats=(FORMATS[path.suffix.lower()],))
        num_frames = getattr(image, "n_frames", 1)
    except Exception as error:  # decoders raise anything at all on damaged files
        raise _damaged(path, error) from None
    width, height = image.size
    require_usable(path, width, height)
    if width * height > MAX_FRAME_PIXELS:
        raise InputError(f"frames of {path} have {width} x {height} pixels: scale it to 4K or less")
    if num_frames > MAX_FRAMES:
        raise InputError(f"{path} has more than {MAX_FRAMES} frames: cut it into pieces")
    return _timed(path, image)


def _timed(path: Path, image: Image.Image) -> Iterator[tuple[UInt8[ndarray, "h w 3"], float]]:
    time = 0.0
    with image:
        try:
            for frame in ImageSequence.Iterator(image):
                picture = _rgb(frame)  # decoded first: some formats tell the duration only then
                shown = frame.info.get("duration", 0) / 1000
                yield picture, time
                time += shown if shown >= SHORTEST else USUAL
        except InputError:
            raise
        except Exception as error:  # see above
            raise _damaged(path, error) from None


def _rgb(frame: Image.Image) -> UInt8[ndarray, "height width 3"]:
    picture = frame.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read {path}: it is damaged or not what its name says "
        f"({type(error).__name__}); save it again"
    )
