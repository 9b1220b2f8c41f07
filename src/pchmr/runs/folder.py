"""A run folder: config, environment, a row per round, weights; a kill loses nothing finished.

`metrics.jsonl` is appended a line at a time; a torn last line is ignored. A run on people who stood
before a camera is private: its folder opens for its owner alone, and its config names neither the
data nor any other place on the disk.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pchmr.config import SettingError, lengths, settings_marked, to_json
from pchmr.config.marks import RESUME
from pchmr.config.options import PRIVATE_DATA
from pchmr.door import Json, parse_json, read_json, read_text
from pchmr.runs.checkpoints import CHECKPOINTS, Checkpoints
from pchmr.runs.environment import environment
from pchmr.runs.files import append_line, make_folder, make_private, replacing, write_bytes

CONFIG, ENVIRONMENT, START, METRICS, SUMMARY, MODEL = (
    "config.json",
    "environment.json",
    "start.json",
    "metrics.jsonl",
    "summary.json",
    "model.safetensors",
)
EXAMPLES, EXAMPLES_BEFORE = "examples.npz", "examples_before.npz"
OLD_STATE = "training_state.safetensors"  # of version 0.1


def settings_of(config: Any) -> Json:
    """What a resumed run must share with the one it continues: settings by name, without levels.

    Args:
        config: A config, or what its JSON holds.
    """
    raw = config if isinstance(config, dict) else json.loads(to_json(config))
    flat: Json = {}
    for name, value in raw.items():
        flat |= value if isinstance(value, dict) else {name: value}
    free = settings_marked(RESUME)
    longer = {name for name, schedule in lengths().items() if flat.get(schedule) == "constant"}
    return {n: v for n, v in flat.items() if n not in free and n not in longer}


def shareable(config: Any, data_sha256: str) -> Any:
    """The config of a private run: no place on the disk, and the hash of the data for its path."""
    changes: Json = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            changes[f.name] = shareable(value, data_sha256)
        elif f.name == "data":
            changes[f.name] = Path(f"{PRIVATE_DATA}{data_sha256}")
        elif isinstance(value, Path) and value.is_absolute():
            changes[f.name] = None if f.name == "cache" else Path(value.name)
    return dataclasses.replace(config, **changes)


def _plain(value: Any) -> Any:
    """The value with NaN and infinity as null, paths as text: what strict JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), allow_nan=False)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, config: Any, *, resume: bool = False, private_data: str | None = None
    ) -> "RunFolder":
        """Opens the folder and writes the config and the environment.

        Without `resume`, what an earlier run left goes at once, so that a report never mixes two
        runs.

        Args:
            path: Of the folder.
            config: Of the run; stored as one that does not resume.
            resume: Go on with what is there.
            private_data: Content hash of the people, where they are private.

        Raises:
            SettingError: The folder cannot be written, or `resume` meets another config.
        """
        run = cls(path)
        if private_data:
            run.keep_private()
        make_folder(path, private=False)
        if resume:
            run.require_same_config(config)
        if not (resume and (path / CONFIG).exists()):
            run.clear()
        stored = dataclasses.replace(config, resume=False) if resume else config
        if private_data:
            stored = shareable(stored, private_data)
        write_bytes(path / CONFIG, to_json(stored).encode())
        if not (path / ENVIRONMENT).exists():
            run.write_json(ENVIRONMENT, environment())
        return run

    def keep_private(self) -> None:
        """Lets nobody but the owner into the folder, from now on."""
        make_private(self.path, "--output", marks=(CONFIG, METRICS))

    @property
    def checkpoints(self) -> Checkpoints:
        """The states after the last rounds or epochs."""
        return Checkpoints(self.path / CHECKPOINTS)

    def require_same_config(self, config: Any) -> None:
        """Refuses to resume a folder that was run with other settings; an empty one is fine.

        Raises:
            SettingError: Another config, a damaged one, or a run of version 0.1.
        """
        if not (self.path / CONFIG).exists():
            return
        try:
            raw = read_json(self.path / CONFIG)
            old = settings_of(dict(raw))
        except (OSError, ValueError, TypeError):
            raise SettingError(
                f"--resume: {self.path / CONFIG} is damaged; start anew without --resume"
            ) from None
        new = settings_of(config)
        changed = [name for name in new if old.get(name, new[name]) != new[name]]
        if changed:
            raise SettingError(
                f"--resume: {self.path} was run with another {', '.join(changed)}; "
                "give the same settings or another --output"
            )
        if (self.path / OLD_STATE).exists() and self.checkpoints.is_empty:
            raise SettingError(
                f"--resume: {self.path / OLD_STATE} is of an older version of pchmr, without a "
                "checksum; start anew without --resume"
            )

    def clear(self) -> None:
        """Removes the results of an earlier run."""
        pictures = (EXAMPLES, EXAMPLES_BEFORE)
        for name in (ENVIRONMENT, START, METRICS, SUMMARY, MODEL, *pictures, OLD_STATE):
            (self.path / name).unlink(missing_ok=True)
        self.checkpoints.clear()

    def reopen(self) -> None:
        """Takes back that the run is finished, as more rounds or epochs follow."""
        for name in (SUMMARY, MODEL):
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
        append_line(self.path / METRICS, _line(row))

    def read_rows(self) -> list[Json]:
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

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes all rows anew, as a resumed run goes on from them."""
        write_bytes(self.path / METRICS, "".join(f"{_line(row)}\n" for row in rows).encode())

    def write_with(self, name: str, writer: Callable[[Path], None]) -> None:
        """Lets `writer` fill a temporary file that then takes the name."""
        with replacing(self.path / name) as temporary:
            writer(temporary)
