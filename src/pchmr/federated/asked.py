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

from pchmr.config import SettingError
from pchmr.door import FileError, Json, read_json_lines, read_text
from pchmr.runs.files import append_line, write_bytes

ASKED = "asked.jsonl"
CURE = "put back a copy of the file, or begin the run anew without --resume"


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

    @classmethod
    def of(cls, raw: Json) -> "Asked":
        """What a line of the file says.

        Raises:
            ValueError: It names no round or no clients.
        """
        match raw:
            case {"round": int() as number, "cohort": list() as cohort, "clients": list() as asked}:
                if all(type(client) is int for client in (*cohort, *asked)):
                    return cls(number, tuple(cohort), tuple(asked))
        raise ValueError("a line does not say who was asked")


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
        """Goes back to what is on disk.

        A last line without its end is taken off: the server was killed while it wrote that line,
        and asks nobody before the line is whole.

        Raises:
            FileError: Another line is damaged.
        """
        if self._path is None or not self._path.exists():
            return
        try:
            text = read_text(self._path)
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                write_bytes(self._path, whole.encode())
            self.entries = [Asked.of(raw) for raw in read_json_lines(self._path)]
        except SettingError:  # the disk is full
            raise
        except ValueError as error:
            reason = error.reason if isinstance(error, FileError) else error
            raise FileError(self._path, f"{reason}; {CURE}") from None

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
