"""`pchmr bench client-scale|lda|...` (see `COMPARISONS`): a row per cell and seed, resumable.

What a cell leaves open is chosen first, by short runs on validation people that stand in
`tuning.jsonl`. A row is appended as soon as its run is finished and carries a hash of everything
it depends on; a cell whose hash stands in one of the files already is not run again. Rows do not
depend on the number of worker processes. A federated run that was stopped goes on after its last
whole round.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pchmr.bench import stamped
from pchmr.bench.cell import Job, Row, measure, open_scene
from pchmr.compute import end_with_parent
from pchmr.config import (
    BenchConfig,
    DivergedError,
    FederateConfig,
    SettingError,
    TrainConfig,
    to_json,
)
from pchmr.progress import say
from pchmr.recipes.comparisons import COMPARISONS, cells
from pchmr.recipes.rows import SMALL_BATCH, Cell, Run, fixed
from pchmr.report.records import SCORES
from pchmr.report.results import write_results
from pchmr.runs import write_bytes

TUNING, UNFINISHED = "tuning", "unfinished"
AVERAGED = ", weights averaged"
CONSTANT = "mean pose of the training people"
# Settings that decide where and how fast a run happens, not what comes of it.
FREE = ("output", "resume", "device", "evaluate_every", "engine", "num_workers", "cache")


def run(config: BenchConfig) -> Path:
    """Runs the cells of a comparison that no file holds yet; returns the file of its rows."""
    board = Board(config)
    todo = cells(config.name, config.scale, config.num_seeds, config.data)
    say(f"{config.name}: {len(todo)} cells, {len(board.lines[config.name])} runs measured before")
    if config.num_workers == 1:
        while named := next(board.ready(todo, frozenset()), None):
            board.note(named, attempt(named.job, board.folder_of(named)))
    else:
        _side_by_side(board, todo, config.num_workers)
    write_results(config.output)
    return board.path


def attempt(job: Job, folder: Path) -> Row:
    """What a job measured, or why it came to nothing: one bad setting stops no comparison.

    What a stopped run left behind and cannot be gone on from is dropped, and the run starts anew.
    """
    try:
        try:
            return measure(job, folder)
        except SettingError:
            if not folder.exists():
                raise
            shutil.rmtree(folder)
            return measure(job, folder)
    except DivergedError as error:
        shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on from
        return {"scores": dict.fromkeys(SCORES), "failed": str(error)}


@dataclass(frozen=True)
class Named:
    """A job and the row that it fills."""

    key: str
    job: Job
    cell: Cell
    label: str
    chosen: dict[str, Any]


def _side_by_side(board: "Board", todo: list[Cell], num_workers: int) -> None:
    """Runs cells in processes of their own, in the same order of worth."""
    running: dict[Future[Row], Named] = {}
    with ProcessPoolExecutor(
        num_workers, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        while True:
            busy = frozenset(named.key for named in running.values())
            for named in board.ready(todo, busy):
                if len(running) == num_workers:
                    break
                running[pool.submit(attempt, named.job, board.folder_of(named))] = named
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                board.note(running.pop(future), future.result())


@dataclass
class Board:
    """What is measured, what is to be measured next, and the files that hold it."""

    config: BenchConfig
    lines: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    _grounds: dict[str, list[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*COMPARISONS, TUNING):
            by_key: dict[str, list[Row]] = {}
            for line in whole_lines(self._file(name)):
                by_key.setdefault(str(line.get("key")), []).append(line)
            self.lines[name] = by_key

    def _file(self, name: str) -> Path:
        return self.config.output / f"{name}.jsonl"

    @property
    def path(self) -> Path:
        """File of this comparison's rows."""
        return self._file(self.config.name)

    def folder_of(self, named: Named) -> Path:
        """Where a stopped run of rounds is kept until it goes on."""
        return self.config.output / UNFINISHED / named.key[:16]

    def ready(self, todo: list[Cell], busy: frozenset[str]) -> Iterator[Named]:
        """What can run now, most worth first; cells that another file holds are copied."""
        given = set(busy)
        for cell in todo:
            for named in self._next(cell):
                if named.key not in given:
                    given.add(named.key)
                    yield named

    def _next(self, cell: Cell) -> list[Named]:
        """The trials that a cell waits for, or else its run, or nothing once that is done."""
        rates = {rate: fixed(cell.tuned_on, rate, {}) for rate in cell.rates}
        tried = {f"learning rate {rate:g}": run for rate, run in rates.items()}
        if waiting := self._trials(cell, tried if len(rates) > 1 else {}):
            return waiting
        rate = self._best(rates) if len(rates) > 1 else next(iter(rates), 0.0)
        like = cell.like or cell.base
        servers = {json.dumps(s): fixed(like, rate, s) for s in cell.servers}
        if waiting := self._trials(cell, servers if len(servers) > 1 else {}):
            return waiting
        server = json.loads(self._best(servers)) if len(servers) > 1 else cell.servers[0]
        job = Job(fixed(cell.base, rate, server))
        key = self._key(job)
        if key in self.lines[self.config.name] or self._copied(key, cell):
            return []
        chosen = {"learning_rate": rate, **server} if cell.rates else {}
        return [Named(key, job, cell, cell.name, chosen)]

    def _trials(self, cell: Cell, runs: dict[str, Run]) -> list[Named]:
        """Short runs that no file holds yet."""
        jobs = {label: Job(run, is_trial=True) for label, run in runs.items()}
        named = [
            Named(self._key(job), job, cell, f"{_kind_of(job.run)}, {label}", {})
            for label, job in jobs.items()
        ]
        return [trial for trial in named if trial.key not in self.lines[TUNING]]

    def _best(self, runs: dict[Any, Run]) -> Any:
        """The setting with the least MPJPE on validation people."""

        def error(run: Run) -> float:
            found = self.lines[TUNING][self._key(Job(run, is_trial=True))]
            mpjpe = found[-1]["scores"]["mpjpe_mm"]
            return math.inf if mpjpe is None else float(mpjpe)

        return min(runs, key=lambda setting: error(runs[setting]))

    def _key(self, job: Job) -> str:
        """Hash of settings, start weights and people: all that a row depends on but the code."""
        settings = _deciding(dataclasses.asdict(job.run))
        parts = [settings, job.is_trial, self._ground(job.run)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _ground(self, run: Run) -> list[str | None]:
        """Hashes of start weights and people; people that are not cached yet are rendered."""
        place = json.dumps(
            [dataclasses.asdict(o) for o in (run.model_options, run.data_options)], default=str
        )
        if place not in self._grounds:
            scene, other = open_scene(Job(run)), open_scene(Job(run, is_trial=True))
            people = (scene.train_set, scene.held_out, other.held_out)
            self._grounds[place] = [
                scene.started_from["sha256"], *(p.content_hash for p in people)
            ]  # fmt: skip
        return self._grounds[place]

    def _copied(self, key: str, cell: Cell) -> bool:
        """Whether another comparison holds the run; its rows are then taken over."""
        for name in COMPARISONS:
            for line in self.lines[name].get(key, []):
                beside = _beside(cell).get(line["kind"])
                named = {"cell": beside or cell.name, "paper": None if beside else cell.paper}
                self._append(self.config.name, line | named)
            if key in self.lines[self.config.name]:
                return True
        return False

    def note(self, named: Named, row: Row) -> None:
        """Keeps what a run measured."""
        cell, run = named.cell, named.job.run
        line = {
            "cell": named.label,
            "seed": run.seed,
            "scores": row.pop("scores"),
            "paper": None if named.job.is_trial else cell.paper,
            "differs": _differs(run),
            "kind": _kind(run),
            "key": named.key,
            "chosen": named.chosen,
        }
        beside = {kind: row.pop(kind) for kind in _beside(cell) if kind in row}
        about = {"config": json.loads(to_json(run))}
        table = run.model_options.model
        if run.data_options.data is not None:
            table += f" on {run.data_options.data.name}"
        name = TUNING if named.job.is_trial else self.config.name
        for made in stamped(table, [line | row | about]):
            self._append(name, made)
            for kind, found in beside.items():
                other = {"cell": _beside(cell)[kind], "kind": kind, "paper": None}
                self._append(name, made | other | found)
        say(f"  {table} {named.label}, seed {run.seed}: {line['scores']['mpjpe_mm']} mm")

    def _append(self, name: str, line: Row) -> None:
        path = self._file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines[name].setdefault(str(line["key"]), []).append(line)


def _differs(run: Run) -> str:
    """What a row has in place of the paper's people, body and start weights."""
    people = run.data_options.data
    shown = f"people of {people.name}" if people else "rendered people of domain B"
    return f"{shown}, embedded body, start weights from domain A"


def _beside(cell: Cell) -> dict[str, str]:
    """Kinds of rows that a run brings along, and their names."""
    return {"averaged": cell.name + AVERAGED, "constant": CONSTANT}


def whole_lines(path: Path) -> list[Row]:
    """The lines of a file; what a killed run left torn at its end is cut off."""
    if not path.exists():
        return []
    found = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if found and not found[-1].endswith("\n"):
        found.pop()
        write_bytes(path, "".join(found).encode())
    return [json.loads(line) for line in found]


def _deciding(value: Any) -> Any:
    """Settings that decide what comes of a run; those left off are out, so that a new one that is
    off changes no key.
    """
    if not isinstance(value, dict):
        return value
    kept = {name: v for name, v in value.items() if name not in FREE}
    return {name: _deciding(v) for name, v in kept.items() if v is not None and v is not False}


def _kind(run: Run) -> str:
    if isinstance(run, FederateConfig):
        return "federated"
    return "centralized" if isinstance(run, TrainConfig) else "before"


def _kind_of(run: Run) -> str:
    """What a trial is of, in words."""
    if not isinstance(run, FederateConfig):
        return _kind(run)
    said = f"{run.clients_per_round} of {run.num_clients} clients, {run.algorithm}"
    if run.optim_options.batch_size == SMALL_BATCH:
        said += f", local batch {SMALL_BATCH}"
    if run.server_options.trainable != "all":
        said += f", {run.server_options.trainable} trains"
    if run.partition == "dirichlet":
        said += f", LDA alpha {run.partition_options.alpha:g}"
    return said if run.partition in ("iid", "dirichlet") else f"{said}, {run.partition}"
