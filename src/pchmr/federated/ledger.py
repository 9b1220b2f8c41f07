"""Which rounds a device answered, in a folder that outlives its processes.

A run is known by its number. Rounds only rise; a round is answered again only for the very same
task, which is what a server asks that was killed before it had saved: the answer is the same, too,
so it tells nothing new. Runs follow one another, each as often as the policy allows, none twice.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pchmr.runs import write_bytes


@dataclass(frozen=True)
class Answered:
    """What a client answered last.

    Attributes:
        run: Number of the run.
        round: In it.
        task: Digest of the task; empty if it may not be answered again.
        earlier: Runs before.
    """

    run: int
    round: int
    task: str = ""
    earlier: tuple[int, ...] = ()

    def allows(self, run: int, round_number: int, task: str, most_runs: int) -> bool:
        """Whether a task may follow."""
        if run == self.run:
            same = round_number == self.round and bool(task) and task == self.task
            return same or round_number > self.round
        return run not in self.earlier and len(self.earlier) + 1 < most_runs

    def then(self, run: int, round_number: int, task: str) -> "Answered":
        """What is known once a task has begun."""
        earlier = self.earlier if run == self.run else (*self.earlier, self.run)
        return Answered(run, round_number, task, earlier)


@dataclass
class Ledger:
    """The answers of the clients of a device."""

    folder: Path

    def begin(
        self, client_id: int, run: int, round_number: int, *, task: str = "", most_runs: int = 1
    ) -> bool:
        """Writes down that a round is being answered; False if it must not be.

        Args:
            client_id: Who is asked.
            run: Number of the run.
            round_number: In it.
            task: Digest of the task, where the same one may be answered again.
            most_runs: Runs that are answered at all.
        """
        known = self.answered(client_id)
        if known is not None and not known.allows(run, round_number, task, most_runs):
            return False
        now = (
            Answered(run, round_number, task)
            if known is None
            else known.then(run, round_number, task)
        )
        self._write(client_id, now)
        return True

    def roll_back(self, round_number: int) -> None:
        """Sets simulated devices back together with their server, to the end of a round."""
        for path in self.folder.glob("answered_*.json"):
            client_id = int(path.stem.removeprefix("answered_"))
            known = self.answered(client_id)
            if known is not None and known.round > round_number:
                self._write(client_id, Answered(known.run, round_number, "", known.earlier))

    @property
    def is_empty(self) -> bool:
        """Whether no client has answered."""
        return not any(self.folder.glob("answered_*.json"))

    def clear(self) -> None:
        """Forgets every round."""
        for pattern in ("answered_*.json", ".answered_*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def _path(self, client_id: int) -> Path:
        return self.folder / f"answered_{client_id:06d}.json"

    def answered(self, client_id: int) -> Answered | None:
        """What a client answered last; None if nothing."""
        path = self._path(client_id)
        if not path.exists():
            return None
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Answered(
            int(raw["run"]), int(raw["round"]), str(raw["task"]), tuple(map(int, raw["earlier"]))
        )

    def _write(self, client_id: int, answered: Answered) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path(client_id), json.dumps(asdict(answered)).encode())
