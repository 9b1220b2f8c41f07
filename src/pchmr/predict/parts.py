"""Parts of a video that were read already, in a hidden folder beside its results.

A run that was killed goes on after the last whole part, if video and settings are the same.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pchmr.door import FileError, read_json
from pchmr.predict.sightings import Sightings, load, save
from pchmr.runs import make_folder, write_bytes

KEY = "key.json"
FRAMES = 64  # of a part


@dataclass
class Parts:
    """What is known of the frames of a video so far.

    Attributes:
        folder: Where parts are kept.
        done: Parts in order, each of `FRAMES` frames but the last.
    """

    folder: Path
    done: list[Sightings]

    @classmethod
    def open(cls, stem: Path, key: dict[str, str]) -> "Parts":
        """The parts of an earlier run under the same key, or none.

        Args:
            stem: Of the results.
            key: What decides what is read: the video, the networks, the settings.
        """
        folder = stem.with_name(f".{stem.name}.parts")
        if not _is_same(folder / KEY, key):
            shutil.rmtree(folder, ignore_errors=True)
            make_folder(folder)
            write_bytes(folder / KEY, json.dumps(key).encode())
        return cls(folder, _whole_parts(folder))

    @property
    def num_frames(self) -> int:
        """Frames that are known."""
        return sum(len(part) for part in self.done)

    def add(self, part: Sightings) -> None:
        """Keeps the next part."""
        save(self.folder / f"{len(self.done):06d}.npz", part)
        self.done.append(part)

    def drop(self) -> None:
        """Removes the folder: the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_same(path: Path, key: dict[str, str]) -> bool:
    try:
        return path.is_file() and read_json(path) == key
    except FileError:
        return False


def _whole_parts(folder: Path) -> list[Sightings]:
    """Full parts from the first on, up to one that is missing, short or damaged."""
    found: list[Sightings] = []
    while True:
        path = folder / f"{len(found):06d}.npz"
        try:
            part = load(path) if path.is_file() else None
        except FileError:
            part = None
        if part is None or len(part) != FRAMES:
            return found
        found.append(part)
