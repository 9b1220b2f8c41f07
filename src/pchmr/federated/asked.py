"""Which clients were asked for masked vectors, on disk before the first of them is asked.

A server that is killed then knows which vectors may have left: it draws nobody twice for a model,
keeps cohorts apart, and differential privacy counts every vector that it may have seen, whether or
not a round came of it. The file outlives checkpoints and is never rolled back.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pchmr.door import read_json_lines
from pchmr.runs.files import append_line

ASKED = "asked.jsonl"


@dataclass(frozen=True)
class Asked:
    """A cohort whose vectors may have left.

    Attributes:
        round: From 1.
        cohort: Clients that were invited.
        clients: Those that were asked for a vector.
    """

    round: int
    cohort: tuple[int, ...]
    clients: tuple[int, ...]


class AskedRecord:
    """All of a run.

    Args:
        folder: Of the run; None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / ASKED
        self.entries: list[Asked] = []

    def note(self, round_number: int, cohort: Iterable[int], clients: Iterable[int]) -> None:
        """Writes down that clients are about to be asked."""
        found = Asked(round_number, tuple(sorted(cohort)), tuple(sorted(clients)))
        if self._path is not None:
            append_line(self._path, json.dumps(asdict(found)))
        self.entries.append(found)

    def read(self) -> None:
        """Goes back to what is on disk."""
        if self._path is not None and self._path.exists():
            self.entries = [
                Asked(int(raw["round"]), tuple(raw["cohort"]), tuple(raw["clients"]))
                for raw in read_json_lines(self._path)
            ]

    def clear(self) -> None:
        """Forgets a run before this one."""
        self.entries = []
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    @property
    def most(self) -> int:
        """Vectors of the client that was asked most often."""
        counts = Counter(client for entry in self.entries for client in entry.clients)
        return max(counts.values(), default=0)
