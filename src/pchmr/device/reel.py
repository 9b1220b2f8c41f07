"""Pictures of labeled files: each file is checked once, each video decoded once.

A video is read on from where it stands; the frames that were passed are kept as JPEGs, so that
going back in a clip decodes nothing again. Knows no label and writes nothing.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from pchmr.data.errors import InputError
from pchmr.data.labels import LabelRow
from pchmr.data.photos import load_photo
from pchmr.data.videos import is_video, video_frames
from pchmr.runs import file_sha256

KEPT_QUALITY = 92
MOST_KEPT = 256 * 2**20  # bytes of a video's frames


@dataclass
class Reel:
    """A video that is read forward.

    Attributes:
        path: Of the file.
        most_bytes: Of the frames that are kept.
    """

    path: Path
    most_bytes: int = MOST_KEPT
    _frames: Iterator[tuple[ndarray, float]] | None = None
    _next: int = 0
    _kept: dict[int, bytes] = field(default_factory=dict)
    _num_bytes: int = 0

    def frame(self, number: int) -> ndarray:
        """RGB picture of a frame.

        Raises:
            InputError: The file cannot be read, or has no such frame.
        """
        if number in self._kept:
            with Image.open(io.BytesIO(self._kept[number])) as image:
                return np.asarray(image.convert("RGB"))
        if self._frames is None or self._next > number:
            self._frames, self._next = iter(video_frames(self.path)), 0
        for image, _ in self._frames:
            self._next += 1
            self._keep(self._next - 1, image)
            if self._next > number:
                return image
        self._frames = None
        raise InputError(f"{self.path.name} has no frame {number} any more")

    def _keep(self, number: int, image: ndarray) -> None:
        """Keeps a frame; where there is no more room, the one that was kept first goes."""
        if number in self._kept:
            return
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=KEPT_QUALITY)
        self._kept[number] = stream.getvalue()
        self._num_bytes += len(self._kept[number])
        while self._num_bytes > self.most_bytes and len(self._kept) > 1:
            self._num_bytes -= len(self._kept.pop(next(iter(self._kept))))


@dataclass
class Pictures:
    """The files that labels were made of; the video at hand stays open."""

    _sound: dict[Path, tuple[int, int, str]] = field(default_factory=dict)
    _reel: Reel | None = None

    def frame(self, about: LabelRow, number: int) -> ndarray:
        """RGB picture of a frame, unless it has changed since it was labeled.

        Raises:
            InputError: It is not there any more.
        """
        source = about.get("source")
        if not source:
            raise InputError("labeled from keypoints, without a picture")
        path = Path(source)
        if not self._is_sound(path, about):
            raise InputError(f"the picture {path.name} is gone or has changed")
        if not is_video(path):
            return load_photo(path)
        if self._reel is None or self._reel.path != path:
            self._reel = Reel(path)
        return self._reel.frame(number)

    def _is_sound(self, path: Path, about: LabelRow) -> bool:
        """Whether a file is the one that was labeled; hashed again only where it was touched."""
        if not path.is_file():
            return False
        stat = path.stat()
        known = self._sound.get(path)
        if known is None or known[:2] != (stat.st_mtime_ns, stat.st_size):
            known = (stat.st_mtime_ns, stat.st_size, file_sha256(path))
            self._sound[path] = known
            self._reel = None
        return known[2] == about.get("key", {}).get("input_sha256")
