"""A folder that is being imported: crops and columns that grow part by part, and can go on.

After each part a line says how far every file goes; what a killed process wrote behind it is cut
off. `finish` turns the columns into one safetensors file. Nothing here knows a data set.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.data.errors import InputError
from pchmr.door import FileError, read_json_lines
from pchmr.runs.files import append_line, cannot_write, make_folder, write_bytes

IMAGES, LABELS, MANIFEST = "images.bin", "labels.safetensors", "imported.json"
COLUMNS, PROGRESS = "columns", "progress.jsonl"
KINDS = {"float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}
PIECE = 1 << 24


@dataclass
class Draft:
    """What is imported so far.

    Attributes:
        folder: Of the import.
        key: What is imported, and how; another import cannot go on with this one.
        done: Names of the parts that are in.
        left_out: People that are not rows, by reason.
        num_rows: In all files.
        num_bytes: Of all crops.
        skipped: People of parts that are not in and are read anew by the next import, by reason.
    """

    folder: Path
    key: Mapping[str, Any]
    done: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    num_rows: int = 0
    num_bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    _sizes: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> "Draft":
        """Goes on with an unfinished import of the same, or starts one.

        Raises:
            InputError: The folder holds another import.
            SettingError: It cannot be written.
        """
        draft = cls(folder, key)
        make_folder(folder / COLUMNS, private=True)
        if (folder / PROGRESS).is_file():
            draft._go_on()
        else:
            append_line(folder / PROGRESS, json.dumps({"key": key}))
        return draft

    def _go_on(self) -> None:
        path = self.folder / PROGRESS
        try:
            first, *lines = read_json_lines(path)
            if first.get("key") != self.key:
                raise InputError(
                    f"{self.folder} holds an unfinished import of other data or settings: give "
                    "another folder, or delete this one"
                )
            for line in lines:
                self.done.append(str(line["part"]))
                self.num_rows, self.num_bytes = int(line["rows"]), int(line["bytes"])
                self.left_out = {str(k): int(v) for k, v in line["left_out"].items()}
        except (FileError, ValueError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is damaged: delete {self.folder} and import anew") from None

    @property
    def num_put(self) -> int:
        """Crops that were put and are not yet those of a part."""
        return len(self._sizes)

    def all_left_out(self) -> Counter[str]:
        """People that are not rows, by reason, whether their parts are in or not."""
        return Counter(self.left_out) + self.skipped

    def put(self, crop: bytes) -> None:
        """Writes a crop of the part that is added next."""
        try:
            start = None if self._sizes else self.num_bytes
            _append(self.folder / IMAGES, start, crop)
        except OSError as error:
            raise InputError(cannot_write(self.folder, error)) from error
        self._sizes.append(len(crop))

    def add(self, part: str, columns: Mapping[str, ndarray], left_out: Mapping[str, int]) -> None:
        """Appends the rows of a part, whose crops were put; it counts once this returns."""
        sizes = np.array(self._sizes, dtype=np.int64)
        self._sizes.clear()
        ends = self.num_bytes + np.cumsum(sizes)
        whole = {**columns, "end": ends}
        try:
            for name, values in whole.items():
                width = values[:1].nbytes if len(values) else 0
                path = self.folder / COLUMNS / f"{name}.bin"
                start = self.num_rows * width if len(values) else None
                _append(path, start, np.ascontiguousarray(values).tobytes())
                _describe(self.folder / COLUMNS / f"{name}.json", values)
        except OSError as error:
            raise InputError(cannot_write(self.folder, error)) from error
        self.num_rows += len(sizes)
        self.left_out = dict(Counter(self.left_out) + Counter(left_out))
        self.num_bytes += int(sizes.sum())
        self.done.append(part)
        line = {"part": part, "rows": self.num_rows, "bytes": self.num_bytes}
        append_line(self.folder / PROGRESS, json.dumps({**line, "left_out": self.left_out}))

    def column(self, name: str) -> ndarray:
        """A column of all rows."""
        kind, shape = json.loads((self.folder / COLUMNS / f"{name}.json").read_text())
        raw = np.fromfile(self.folder / COLUMNS / f"{name}.bin", dtype=kind)
        return raw.reshape(-1, *shape)[: self.num_rows]

    def finish(self, manifest: Mapping[str, Any], coded: Mapping[str, ndarray]) -> None:
        """Writes the labels, hashes every file, and last the manifest; removes the draft.

        Args:
            manifest: What the folder says of itself.
            coded: Columns that are written in place of those of the same name, which stay as they
                are: what is stopped here can be done again.
        """
        try:
            with (self.folder / IMAGES).open("ab") as file:
                file.truncate(self.num_bytes)
            self._write_labels(coded)
        except OSError as error:
            raise InputError(cannot_write(self.folder, error)) from error
        files = {name: _sha256(self.folder / name) for name in (IMAGES, LABELS)}
        left_out = dict(self.all_left_out())
        whole = {**manifest, "left_out": left_out, "num_rows": self.num_rows, "files": files}
        whole["seal"] = seal(whole)
        write_bytes(self.folder / MANIFEST, (json.dumps(whole, indent=1) + "\n").encode())
        shutil.rmtree(self.folder / COLUMNS)
        (self.folder / PROGRESS).unlink()

    def _write_labels(self, coded: Mapping[str, ndarray]) -> None:
        """One safetensors file, column by column, so that no column need lie in memory twice."""

        def written(name: str) -> ndarray:
            return coded[name] if name in coded else self.column(name)

        header, at = {}, 0
        names = sorted(path.stem for path in (self.folder / COLUMNS).glob("*.json"))
        for name in names:
            column = written(name)
            span = [at, at + column.nbytes]
            shape, kind = list(column.shape), KINDS[column.dtype.name]
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": span}
            at = span[1]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (self.folder / LABELS).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                file.write(written(name).tobytes())


def seal(manifest: Mapping[str, Any]) -> str:
    """Hash of all that a manifest says."""
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _append(path: Path, start: int | None, content: bytes) -> None:
    """Writes behind `start`, whatever a killed process left there."""
    with path.open("r+b" if path.is_file() else "wb") as file:
        if start is not None:
            file.truncate(start)
        file.seek(0, 2)
        file.write(content)


def _describe(path: Path, values: ndarray) -> None:
    if not path.is_file() or len(values):
        path.write_text(json.dumps([values.dtype.name, values.shape[1:]]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
