"""A run folder: config, environment, a row per round, weights; a kill loses nothing finished.

Every file but `metrics.jsonl` is written beside its final name and renamed, so a reader sees the
old file or the new one. `metrics.jsonl` is appended a line at a time; a torn last line is ignored.
Weights are safetensors; nothing here reads a pickle.
"""

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pchmr.config import SettingError, to_json
from pchmr.door import parse_json, read_json, read_text

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, ENVIRONMENT, START, METRICS, SUMMARY, MODEL = (
    "config.json",
    "environment.json",
    "start.json",
    "metrics.jsonl",
    "summary.json",
    "model.safetensors",
)
FREE_ON_RESUME = ("output", "resume", "engine")
"""Settings that a resumed run need not share with the one it continues."""
REPORTED_PACKAGES = ("pchmr", "torch", "torchvision", "timm", "flwr", "numpy", "scipy", "roma")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling of `path`; on success it takes the path's place, durably.

    On an error the temporary file is removed and the old file, if any, stays.

    Raises:
        SettingError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise SettingError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_write(path: Path, error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"cannot write {path}: {reason}; free some space or choose another --output"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _plain(value: Any) -> Any:
    """The value with NaN and infinity as null, paths as text: what strict JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def state_sha256(state: Mapping[str, "Tensor"]) -> str:
    """SHA-256 over the raw little-endian bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Any, *, resume: bool = False) -> "RunFolder":
        """Opens the folder and writes the config and the environment.

        Without `resume`, files of an earlier run are replaced as the new run writes them; its rows
        and summary go at once, so that a report never mixes two runs.

        Raises:
            SettingError: The folder cannot be written, or `resume` meets another config.
        """
        run = cls(path)
        if resume:
            run.require_same_config(config)
        if not (resume and (path / CONFIG).exists()):
            run.clear()
        write_bytes(path / CONFIG, to_json(config).encode())
        run.write_json(ENVIRONMENT, environment())
        return run

    def require_same_config(self, config: Any) -> None:
        """Refuses to resume a folder that was run with other settings; an empty one is fine.

        Raises:
            SettingError: Another config, or a damaged one.
        """
        if not (self.path / CONFIG).exists():
            return

        def settings(text: str) -> dict[str, Any]:
            return {k: v for k, v in parse_json(text).items() if k not in FREE_ON_RESUME}

        try:
            old = settings(read_text(self.path / CONFIG))
        except (ValueError, AttributeError):
            raise SettingError(
                f"--resume: {self.path / CONFIG} is damaged; start anew without --resume"
            ) from None
        new = settings(to_json(config))
        changed = [name for name in new if old.get(name) != new[name]]
        if changed:
            raise SettingError(
                f"--resume: {self.path} was run with another {', '.join(changed)}; "
                "give the same settings or another --output"
            )

    def clear(self) -> None:
        """Removes the results of an earlier run."""
        for name in (START, METRICS, SUMMARY, MODEL):
            (self.path / name).unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all; NaN becomes null."""
        text = json.dumps(_plain(value), indent=2, allow_nan=False)
        write_bytes(self.path / name, (text + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The content of a JSON file, None where it is missing; `FileError` where it is none."""
        path = self.path / name
        return read_json(path) if path.exists() else None

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl` and syncs it to disk."""
        path = self.path / METRICS
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_plain(row), allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SettingError(_cannot_write(path, error)) from error

    def read_rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`; a torn last line of a killed run is left out."""
        path = self.path / METRICS
        if not path.exists():
            return []
        rows = []
        for line in read_text(path).splitlines():
            try:
                row = parse_json(line)
            except ValueError:
                break
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def keep_rows(self, count: int) -> None:
        """Drops rows after the first `count`, as a resumed run writes them again."""
        lines = [json.dumps(row) + "\n" for row in self.read_rows()[:count]]
        write_bytes(self.path / METRICS, "".join(lines).encode())

    def write_with(self, name: str, writer: Callable[[Path], None]) -> None:
        """Lets `writer` fill a temporary file that then takes the name."""
        with replacing(self.path / name) as temporary:
            writer(temporary)


def environment() -> dict[str, Any]:
    """Versions, commit and hardware that a result depends on; no host or user name."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in REPORTED_PACKAGES},
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_count": os.cpu_count(),
        "commit": commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the source tree, with `+` where it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        call = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
