"""The state of a run after every round or epoch, on disk before the next one starts.

A checkpoint is a safetensors file and, written after it, a manifest that names its SHA-256 and
carries its own. A manifest that can be read and verified is therefore a whole checkpoint; anything
else is passed over for the one before.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pchmr.config import SettingError
from pchmr.door import Json, parse_json, read_text
from pchmr.door.tensors import read_tensors
from pchmr.runs.files import replacing, sweep, write_bytes

KEPT = 3
FORMAT = "pchmr/checkpoint/v2"
CHECKPOINTS = "checkpoints"
DTYPES = {
    "<f4": "F32",
    "<f8": "F64",
    "<f2": "F16",
    "<i8": "I64",
    "<i4": "I32",
    "|u1": "U8",
    "|b1": "BOOL",
}


@dataclass
class Checkpoint:
    """Everything that the rounds so far have left behind.

    Attributes:
        round: Finished rounds or epochs.
        vectors: Parameters, running statistics, and the state of the algorithm or optimizer.
        memory: What the gate remembers and whatever else is small.
        rows: The run's rows so far.
        identity: Hashes of config, data, partition and layout: what a resumed run must share.
    """

    round: int
    vectors: dict[str, np.ndarray]
    memory: Json
    rows: list[Json]
    identity: dict[str, str] = field(default_factory=dict)


KINDS = {"round": int, "memory": dict, "rows": list, "identity": dict, "vectors_sha256": str}
"""Of the fields of a manifest of this version."""


class Checkpoints:
    """The checkpoints of a run, in a folder of its run folder; the last `kept` stay."""

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self.folder, self.kept = folder, kept

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to resume."""
        return not self._manifests()

    def clear(self) -> None:
        """Removes every checkpoint."""
        sweep(self.folder)
        for path in self.folder.glob("round_*"):
            path.unlink()

    def retire(self) -> None:
        """Keeps only the newest checkpoint, once no round is left."""
        for path in self._manifests()[1:]:
            path.unlink()
            path.with_suffix(".safetensors").unlink(missing_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint in place of the oldest of those that stay."""
        stem, spare = f"round_{checkpoint.round:06d}", None
        for path in self._manifests()[self.kept - 1 :]:
            path.unlink()
            spare = path.with_suffix(".safetensors")
        digest = write_vectors(self.folder / f"{stem}.safetensors", checkpoint.vectors, spare)
        manifest = {
            "format": FORMAT,
            "round": checkpoint.round,
            "vectors_sha256": digest,
            "memory": checkpoint.memory,
            "rows": checkpoint.rows,
            "identity": checkpoint.identity,
        }
        text = json.dumps(manifest, sort_keys=True)
        seal = hashlib.sha256(text.encode()).hexdigest()
        write_bytes(self.folder / f"{stem}.json", f"{seal}\n{text}\n".encode())

    def latest(self, identity: Mapping[str, str]) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None; for a run that starts.

        Raises:
            SettingError: It belongs to another config, other data or another version of this
                package, or all are damaged.
        """
        sweep(self.folder)
        manifests = self._manifests()
        for path in manifests:
            found = self._read(path)
            if found is not None:
                _require_same(found.identity, identity, self.folder)
                return found
        if manifests:
            raise SettingError(
                f"--resume: no checkpoint in {self.folder} is whole; start anew without --resume"
            )
        return None

    def _manifests(self) -> list[Path]:
        return sorted(self.folder.glob("round_*.json"), reverse=True)

    def _read(self, path: Path) -> Checkpoint | None:
        """A checkpoint, or None where it is damaged."""
        manifest = _sealed(path)
        if manifest is None:
            return None
        if manifest["format"] != FORMAT:
            raise SettingError(
                f"--resume: {self.folder} is of another version of pchmr; start anew without "
                "--resume"
            )
        if not all(isinstance(manifest.get(name), kind) for name, kind in KINDS.items()):
            return None
        try:
            vectors, sha256 = path.with_suffix(".safetensors"), manifest["vectors_sha256"]
            loaded, _ = read_tensors(vectors, framework="numpy", sha256=sha256)
        except ValueError:
            return None
        return Checkpoint(
            round=manifest["round"],
            vectors=loaded,
            memory=manifest["memory"],
            rows=manifest["rows"],
            identity=manifest["identity"],
        )


def _sealed(path: Path) -> Json | None:
    """What a manifest says, or None where it is not what was written, or names no format."""
    try:
        seal, text = read_text(path).split("\n", 1)
        if hashlib.sha256(text.strip().encode()).hexdigest() != seal:
            return None
        manifest = parse_json(text)
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) and "format" in manifest else None


def write_vectors(path: Path, vectors: Mapping[str, np.ndarray], spare: Path | None = None) -> str:
    """Writes arrays as safetensors without copying them; returns the SHA-256.

    The format is a length, a JSON header and the values end to end (huggingface/safetensors).

    Args:
        path: File to write, whole or not at all.
        vectors: What to write.
        spare: A file that is no longer needed: overwriting it saves the system half the work of
            finding memory for a new one.
    """
    header: Json = {}
    start = 0
    for name, vector in vectors.items():
        assert vector.flags.c_contiguous
        span = [start, start + vector.nbytes]
        about = {"dtype": DTYPES[vector.dtype.str], "shape": list(vector.shape)}
        header[name] = about | {"data_offsets": span}
        start += vector.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with replacing(path) as temporary, _opened(temporary, spare) as file:
        head = struct.pack("<Q", len(text)) + text
        for piece in (head, *(v.reshape(-1).view(np.uint8).data for v in vectors.values())):
            digest.update(piece)
            file.write(piece)
        file.truncate()
    return digest.hexdigest()


def _opened(path: Path, spare: Path | None) -> BinaryIO:
    """A file to write at `path`: the spare one, moved there, or a new one."""
    if spare is None or not spare.exists():
        return open(path, "wb")
    spare.rename(path)
    return open(path, "r+b")


def _require_same(old: Mapping[str, str], new: Mapping[str, str], folder: Path) -> None:
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        raise SettingError(
            f"--resume: {folder} belongs to another {', '.join(changed)}; give the same settings "
            "and data, or start anew without --resume"
        )
