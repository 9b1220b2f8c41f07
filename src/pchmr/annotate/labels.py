"""Labels on disk: one npz a clip and a manifest, in a folder that only its owner can read.

Every file is written beside its name and renamed, so a killed run leaves finished clips whole and
the next run skips them. Nothing here sends anything anywhere, and no federated code reads it.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy import ndarray

from pchmr.annotate.consent import CONSENT
from pchmr.config import SettingError
from pchmr.data.labels import DECIDED, MANIFEST, LabelKey, LabelRow, verdicts
from pchmr.door import FileError, Json, read_json_lines
from pchmr.door.arrays import read_arrays
from pchmr.runs import FILE_MODE, LOCK, file_sha256, make_private, replacing, sweep, write_bytes

AUDIT = "audit.jsonl"
LEFT_OUT = "left-out"  # row of the manifest about files that are no clip
LABEL_VERSION = 3
KINDS = (".npz", ".png")
INTERRUPTED = "the run was stopped while this clip was written: run it again"
LABEL_ARRAYS = (
    "global_orient",
    "body_pose",
    "betas",
    "transl",
    "intrinsics",
    "vertices",
    "joints",
    "joint_names",
    "predicted_error_mm",
    "status",
)


@dataclass
class LabelFolder:
    """A private folder of label files.

    Attributes:
        path: Of the folder.
        rows: Manifest rows by clip.
    """

    path: Path
    rows: dict[str, LabelRow] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "LabelFolder":
        """Makes the folder private, or goes on with one that an earlier run wrote.

        Raises:
            SettingError: The folder holds something else, or cannot be made private.
        """
        if path.is_dir():
            names = sorted(p.name for p in path.iterdir() if p.name[0] != ".")
            if names and MANIFEST not in names:
                raise SettingError(
                    f"--output {path} already holds {names[0]} and no labels: give a new or an "
                    "empty folder, it becomes readable by you alone"
                )
        make_private(path, "--output", marks=(MANIFEST,))
        sweep(path)
        if not (path / MANIFEST).exists():
            write_bytes(path / MANIFEST, b"")
        return cls(path, _read_manifest(path / MANIFEST))

    def is_finished(self, clip: str, key: LabelKey) -> bool:
        """Whether the clip was labeled from the same input with the same settings, and is whole.

        Labels of another `LABEL_VERSION` are not finished: what they hold has changed.
        """
        row = self.rows.get(clip)
        if row is None or row.get("key") != key or not self.is_whole(clip):
            return False
        if row.get("label_version") != LABEL_VERSION:
            return False
        picture = row.get("picture")
        return picture is None or (self.path / picture).is_file()

    def name_for(self, wanted: str, source: Path, input_sha256: str) -> str:
        """The clip of an input: the one it had, else the wanted name, numbered where it is taken.

        An input is known by its path or by its content, so that neither a picture of another
        folder nor a file of another kind takes the labels of one with the same stem.
        """
        for clip, row in self.rows.items():
            if row.get("source") == str(source):
                return clip
        number, clip = 1, wanted
        while clip in self.rows and not self._is_of(clip, input_sha256):
            number += 1
            clip = f"{wanted}-{number}"
        return clip

    def _is_of(self, clip: str, input_sha256: str) -> bool:
        """Whether a clip came from this content, or never came to anything."""
        row = self.rows[clip]
        never = "failed" in row and not row.get("source")
        return never or row.get("key", {}).get("input_sha256") == input_sha256

    def is_whole(self, clip: str) -> bool:
        """Whether the labels of a clip are there as they were written."""
        row = self.rows.get(clip)
        if row is None or "failed" in row:
            return False
        file = self.path / row["labels"]
        return file.is_file() and file_sha256(file) == row["labels_sha256"]

    def write(
        self,
        clip: str,
        arrays: Mapping[str, ndarray],
        key: LabelKey,
        picture: bytes | None = None,
        **about: Any,
    ) -> Path:
        """Writes a clip's labels, then its row of the manifest, then its overlay.

        The row is there before the labels, so that a killed run leaves no file without one.
        """
        path, drawn = self.path / f"{clip}.npz", self.path / f"{clip}.png"
        if clip not in self.rows:
            self._put(clip, {"failed": INTERRUPTED, "source": about.get("source")})
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        row: Json = {"labels": path.name, "labels_sha256": file_sha256(path), **about}
        row["picture"] = None if picture is None else drawn.name
        row["labeled"] = round(time.time())
        drawn.unlink(missing_ok=True)
        self._put(clip, {**row, "key": dict(key)})
        if picture is not None:
            write_bytes(drawn, picture)
        return path

    def fail(self, clip: str, reason: str, source: Path | None = None) -> None:
        """Notes that a clip could not be labeled; labels of an earlier run stay what they are."""
        if not self.is_whole(clip):
            self._put(clip, {"failed": reason, "source": None if source is None else str(source)})

    def leave_out(self, line: str, source: Path) -> None:
        """Notes which files of the input are not read; an empty line takes it back."""
        if line:
            self._put(LEFT_OUT, {"failed": line, "source": str(source)})
        elif self.rows.pop(LEFT_OUT, None):
            self._save()

    def decide(self, clip: str, frames: Iterable[int], verdict: str) -> None:
        """Keeps what the person says of frames of a clip, in place of what the fit says.

        Labels stay as they were written; the manifest holds the decision.

        Raises:
            SettingError: The clip has no whole labels.
        """
        if not self.is_whole(clip):
            raise SettingError(
                f"{self.path / clip} holds no whole labels: run `pchmr annotate` again first"
            )
        row = self.rows[clip]
        fitted = read_arrays(self.path / row["labels"], ("status",))["status"]
        said = {**row.get(DECIDED, {}), **{str(frame): verdict for frame in frames}}
        self._judge(clip, fitted, said)

    def undecide(self, clip: str, frame: int, verdict: str | None) -> None:
        """Puts back what was decided of a frame before; None is nothing."""
        if verdict is not None:
            self.decide(clip, [frame], verdict)
            return
        row = self.rows[clip]
        fitted = read_arrays(self.path / row["labels"], ("status",))["status"]
        self._judge(clip, fitted, _without(row, frame))

    def _judge(self, clip: str, fitted: ndarray, decided: dict[str, str]) -> None:
        """Keeps decisions of a clip on disk; where that fails, nothing has changed."""
        before = self.rows[clip]
        row = cast(LabelRow, {**before, DECIDED: decided})
        row["status"] = dict(Counter(verdicts(fitted, row).tolist()))
        self.rows[clip] = row
        try:
            self._save()
        except SettingError:
            self.rows[clip] = before
            raise

    def revise(
        self, clip: str, arrays: Mapping[str, ndarray], action: str, *, frame: int, **about: Any
    ) -> None:
        """Writes another label of a frame, and what was done into the audit log before it.

        What was decided of the frame no longer holds. The arrays are stored unpacked: packing a
        whole clip again would take longer than the correction.

        Args:
            clip: Whose label it is.
            arrays: All of the clip's.
            action: What was done.
            frame: The one that changed.
            about: More for the log.
        """
        path = self.path / f"{clip}.npz"
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            digest = file_sha256(temporary)
            self.note(clip, action, labels_sha256=digest, frame=frame, **about)
        row = self.rows[clip]
        row["labels_sha256"] = digest
        self._judge(clip, arrays["status"], _without(row, frame))

    def note(self, clip: str, action: str, **about: Any) -> None:
        """Adds a line to the audit log: what the owner did, and when."""
        line = {"time": round(time.time(), 3), "clip": clip, "action": action, **about}
        handle = os.open(self.path / AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
        with open(handle, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def forget(self, clip: str) -> None:
        """Deletes a clip's files, then its row; with the last clip the folder goes too."""
        for name in (f"{clip}.npz", f"{clip}.png"):
            (self.path / name).unlink(missing_ok=True)
            for torn in self.path.glob(f".{escape(name)}.*.tmp"):
                torn.unlink()
        del self.rows[clip]
        self._save()
        self._forget_audit(clip)
        if not self.rows:
            self.close()

    def orphans(self) -> list[Path]:
        """Files like those of a clip that no clip owns: left by version 0.1, or by hand."""
        own = {f"{clip}{kind}" for clip in self.rows for kind in KINDS}
        found = (p for p in self.path.iterdir() if p.name[0] != "." and p.suffix in KINDS)
        return sorted(path for path in found if path.name not in own)

    def close(self) -> None:
        """Deletes the folder of which no clip is left, with whatever was derived there."""
        own = [self.path / name for name in (MANIFEST, CONSENT, AUDIT)]
        for path in (*self.orphans(), *self.path.glob(".*.tmp"), *own):
            path.unlink(missing_ok=True)
        if {path.name for path in self.path.iterdir()} <= {LOCK}:
            shutil.rmtree(self.path)

    def _forget_audit(self, clip: str) -> None:
        path = self.path / AUDIT
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.dumps(clip) not in line]
            write_bytes(path, "".join(kept).encode())

    def _put(self, clip: str, row: Json) -> None:
        self.rows[clip] = cast(LabelRow, {"clip": clip, "label_version": LABEL_VERSION, **row})
        self._save()

    def _save(self) -> None:
        text = "".join(json.dumps(r) + "\n" for r in self.rows.values())
        write_bytes(self.path / MANIFEST, text.encode())


def _without(row: LabelRow, frame: int) -> dict[str, str]:
    """What was decided of the other frames."""
    return {k: v for k, v in row.get(DECIDED, {}).items() if k != str(frame)}


def _read_manifest(path: Path) -> dict[str, LabelRow]:
    if not path.is_file():
        return {}
    cure = "move the file away to label everything again"
    try:
        found = read_json_lines(path)
    except FileError as error:
        raise SettingError(f"{error}: {cure}") from None
    for number, row in enumerate(found, start=1):
        if not _is_row(row):
            raise SettingError(f"{path} line {number} is damaged: {cure}")
    return {row["clip"]: row for row in cast(list[LabelRow], found)}


def _is_row(row: Json) -> bool:
    """Whether a row names files of its own folder, and a status, where it names any."""
    names = [row.get("clip"), row.get("picture") or "-"]
    if "failed" not in row:
        names += [row.get("labels"), row.get("labels_sha256")]
    plain = all(isinstance(n, str) and n.isprintable() and Path(n).name == n for n in names)
    plain = plain and isinstance(row.get("labeled", 0), (int, float))
    return plain and all(isinstance(row.get(n, {}), dict) for n in ("key", "status", DECIDED))
