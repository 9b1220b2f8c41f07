"""Labels on disk: one npz a clip and a manifest, in a folder that only its owner can read.

Every file is written beside its name and renamed, so a killed run leaves finished clips whole and
the next run skips them. Nothing here sends anything anywhere, and no federated code reads it.
"""

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.config import SettingError
from pchmr.runs import file_sha256, replacing, write_bytes

MANIFEST = "manifest.jsonl"
LABEL_VERSION = 1
FOLDER_MODE, FILE_MODE = 0o700, 0o600
LABEL_ARRAYS = (
    "global_orient", "body_pose", "betas", "transl", "intrinsics", "vertices", "joints",
    "joint_names", "predicted_error_mm", "status",
)  # fmt: skip


@contextmanager
def private_umask() -> Iterator[None]:
    """Files made inside can be read by their owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@dataclass
class LabelFolder:
    """A private folder of label files.

    Attributes:
        path: Of the folder.
        rows: Manifest rows by clip.
    """

    path: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "LabelFolder":
        """Makes the folder private, or goes on with one that an earlier run wrote.

        Raises:
            SettingError: The folder holds something else, or cannot be made private.
        """
        try:
            with private_umask():
                path.mkdir(parents=True, exist_ok=True)
            strangers = [p.name for p in path.iterdir() if p.name[0] != "."]
            if strangers and MANIFEST not in strangers:
                raise SettingError(
                    f"--output {path} already holds {strangers[0]} and no labels: give a new or an "
                    "empty folder, it becomes readable by you alone"
                )
            path.chmod(FOLDER_MODE)
        except OSError as error:
            raise SettingError(f"cannot make --output {path} private: {error.strerror}") from error
        return cls(path, _read_manifest(path / MANIFEST))

    def is_finished(self, clip: str, key: Mapping[str, Any]) -> bool:
        """Whether the clip was labeled from the same input with the same settings, and is whole."""
        row = self.rows.get(clip)
        if row is None or "failed" in row or row.get("key") != dict(key):
            return False
        file = self.path / row["labels"]
        return file.is_file() and file_sha256(file) == row["labels_sha256"]

    def write(
        self, clip: str, arrays: Mapping[str, ndarray], key: Mapping[str, Any], **about: Any
    ) -> Path:
        """Writes a clip's labels, then its row of the manifest."""
        path = self.path / f"{clip}.npz"
        with private_umask(), replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        row = {"labels": path.name, "labels_sha256": file_sha256(path), **about}
        row["labeled"] = round(time.time())
        self._put(clip, {**row, "key": dict(key)})
        return path

    def write_picture(self, clip: str, content: bytes) -> str:
        """Writes a clip's overlay; returns the file's name."""
        with private_umask():
            write_bytes(self.path / f"{clip}.png", content)
        return f"{clip}.png"

    def fail(self, clip: str, reason: str) -> None:
        """Notes that a clip could not be labeled; the rest goes on."""
        self._put(clip, {"failed": reason})

    def forget(self, clip: str) -> None:
        """Deletes a clip's labels, then its row; with the last clip the folder goes too."""
        row = self.rows.pop(clip)
        for name in (row.get("labels"), row.get("picture")):
            if name:
                (self.path / name).unlink(missing_ok=True)
        self._save()
        if not self.rows:
            (self.path / MANIFEST).unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _put(self, clip: str, row: dict[str, Any]) -> None:
        self.rows[clip] = {"clip": clip, "label_version": LABEL_VERSION, **row}
        self._save()

    def _save(self) -> None:
        text = "".join(json.dumps(r) + "\n" for r in self.rows.values())
        with private_umask():
            write_bytes(self.path / MANIFEST, text.encode())


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows[row["clip"]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            raise SettingError(
                f"{path} line {number} is damaged: move the file away to label everything again"
            ) from None
    return rows


def is_private(path: Path) -> bool:
    """Whether nobody but the owner may read the file or folder."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077
