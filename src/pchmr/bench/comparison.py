"""`pchmr bench client-scale|lda|...` (see `COMPARISONS`): a row per cell and seed, resumable.

What a cell leaves open is chosen first, by short runs on validation people that stand in
`tuning.jsonl`. A row is appended as soon as its run is finished and carries a hash of everything
it depends on; a cell whose hash stands in one of the files already is not run again. Rows do not
depend on the number of worker processes. A run that was stopped goes on after its last whole
epoch or round; one that diverged has a row without scores.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from pchmr.bench import append, likeness, stamped
from pchmr.bench.cell import Job, Measured, attempt
from pchmr.bench.estimate import cpu_hours, prices_of
from pchmr.bench.likeness import deciding
from pchmr.bench.naming import differs_of, kind_of, table_of, told, trial_of
from pchmr.bench.paper import cells_of
from pchmr.compute import end_with_parent
from pchmr.config import (
    BenchConfig,
    to_json,
)
from pchmr.progress import say
from pchmr.recipes.cells import AttackedRun, Cell, Run, ServerChanges, fixed
from pchmr.recipes.comparisons import COMPARISONS, cells
from pchmr.report.results import write_results
from pchmr.results import (
    AVERAGED,
    CONSTANT,
    GENDERED,
    ResultRow,
    Scalar,
    slug,
)
from pchmr.runs import write_bytes

TUNING, UNFINISHED = "tuning", "unfinished"
WIDER, MOST_WIDER = 2.5, 3  # factor beyond the edge of a grid of learning rates, and how often
Setting = TypeVar("Setting")


def run(config: BenchConfig) -> Path:
    """Runs the cells of a comparison that no file holds yet; returns the file of its rows."""
    ledger = Ledger(config)
    if config.scale == "paper":
        todo = cells_of(config)
    else:
        todo = cells(config.name, config.scale, config.num_seeds, config.data, config.domain)
    say(f"{config.name}: {len(todo)} cells, {len(ledger.rows[config.name])} runs measured before")
    hours = cpu_hours(ledger.left(todo), prices_of(ledger.known))
    say(f"about {hours:.1f} CPU hours are left, evaluation not counted")
    if config.num_workers == 1:
        while planned := next(ledger.ready(todo, frozenset()), None):
            ledger.note(planned, attempt(planned.job, ledger.folder_of(planned)))
    else:
        _side_by_side(ledger, todo, config.num_workers)
    write_results(config.output)
    return ledger.path


@dataclass(frozen=True)
class PlannedRun:
    """A job and the row that it fills."""

    key: str
    job: Job
    cell: Cell
    id: str
    label: str
    chosen: Mapping[str, Scalar]


@dataclass(frozen=True)
class Ground:
    """Hashes of start weights and people, and of the worlds that these are from."""

    hashes: tuple[str | None, ...]
    worlds: Mapping[str, str]


def _side_by_side(ledger: "Ledger", todo: list[Cell], num_workers: int) -> None:
    """Runs cells in processes of their own, in the same order of worth."""
    running: dict[Future[Measured], PlannedRun] = {}
    with ProcessPoolExecutor(
        num_workers, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        while True:
            busy = frozenset(planned.key for planned in running.values())
            for planned in ledger.ready(todo, busy):
                if len(running) == num_workers:
                    break
                folder = ledger.folder_of(planned)
                running[pool.submit(attempt, planned.job, folder)] = planned
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                ledger.note(running.pop(future), future.result())


@dataclass
class Ledger:
    """What is measured, what is to be measured next, and the files that hold it.

    Attributes:
        config: The comparison.
        rows: What each file holds, by the key of the run.
    """

    config: BenchConfig
    rows: dict[str, dict[str, list[ResultRow]]] = field(default_factory=dict)
    _grounds: dict[str, Ground] = field(default_factory=dict)
    _alike: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*COMPARISONS, TUNING):
            by_key: dict[str, list[ResultRow]] = {}
            for row in whole_lines(self._file(name)):
                by_key.setdefault(str(row.key), []).append(row)
            self.rows[name] = by_key
            self._alike[name] = {
                said: key
                for key, rows in by_key.items()
                if (said := likeness.of_row(rows[0])) is not None
            }

    def _file(self, name: str) -> Path:
        return self.config.output / f"{name}.jsonl"

    @property
    def path(self) -> Path:
        """File of this comparison's rows."""
        return self._file(self.config.name)

    def folder_of(self, planned: PlannedRun) -> Path:
        """Where a stopped run is kept until it goes on."""
        return self.config.output / UNFINISHED / planned.key[:16]

    def ready(self, todo: list[Cell], busy: frozenset[str]) -> Iterator[PlannedRun]:
        """What can run now, most worth first; cells that another file holds are copied."""
        given = set(busy)
        for cell in todo:
            for planned in self._next(cell):
                if planned.key not in given:
                    given.add(planned.key)
                    yield planned

    @property
    def known(self) -> Iterator[ResultRow]:
        """All rows of all files."""
        return (row for rows in self.rows.values() for found in rows.values() for row in found)

    def left(self, todo: list[Cell]) -> Iterator[tuple[Run, bool]]:
        """What is still to be run, and whether as a trial; settings that trials choose are taken to
        change no cost.
        """
        held = {key for name in COMPARISONS for key in self.rows[name]}
        for cell in todo:
            waiting = self._next(cell)
            for planned in waiting:
                if planned.key not in held:
                    held.add(planned.key)  # cells share trials
                    yield planned.job.run, planned.job.is_trial
            if any(planned.job.is_trial for planned in waiting):
                yield cell.base, False

    def _next(self, cell: Cell) -> list[PlannedRun]:
        """The trials that a cell waits for, or else its run, or nothing once that is done."""
        rates = {rate: fixed(cell.tuned_on, rate, {}) for rate in self._grid(cell)}
        tried = {f"learning rate {rate:g}": run for rate, run in rates.items()}
        if waiting := self._trials(cell, tried if len(rates) > 1 else {}):
            return waiting
        rate = self._best(rates) if len(rates) > 1 else next(iter(rates), 0.0)
        like = cell.like or cell.base
        servers = {json.dumps(s): fixed(like, rate, s) for s in cell.servers}
        if waiting := self._trials(cell, servers if len(servers) > 1 else {}):
            return waiting
        server: ServerChanges = cell.servers[0]
        if len(servers) > 1:
            server = json.loads(self._best(servers))
        job = Job(fixed(cell.base, rate, server))
        key = self._key(job)
        if key in self.rows[self.config.name] or self._copied(key, cell):
            return []
        chosen = {"learning_rate": rate, **server} if cell.rates else {}
        return [PlannedRun(key, job, cell, cell.id, cell.name, chosen)]

    def _grid(self, cell: Cell) -> tuple[float, ...]:
        """Learning rates to choose from; wider while the best of them is the least or largest."""
        rates = list(cell.rates)
        for _ in range(MOST_WIDER if len(rates) > 1 else 0):
            runs = {rate: fixed(cell.tuned_on, rate, {}) for rate in rates}
            trials = {self._key(Job(run, is_trial=True)) for run in runs.values()}
            if trials - self.rows[TUNING].keys():
                break
            further = beyond(rates, self._best(runs))
            if further is None:
                break
            rates = sorted([*rates, further])
        return tuple(rates)

    def _trials(self, cell: Cell, runs: Mapping[str, Run]) -> list[PlannedRun]:
        """Short runs that no file holds yet."""
        planned = []
        for setting, run in runs.items():
            job, label = Job(run, is_trial=True), f"{trial_of(run)}, {setting}"
            planned.append(PlannedRun(self._key(job), job, cell, slug(label), label, {}))
        return [trial for trial in planned if trial.key not in self.rows[TUNING]]

    def _best(self, runs: Mapping[Setting, Run]) -> Setting:
        """The setting with the least MPJPE on validation people."""

        def error(run: Run) -> float:
            found = self.rows[TUNING][self._key(Job(run, is_trial=True))]
            mpjpe = found[-1].scores.get("mpjpe_mm")
            return math.inf if mpjpe is None else float(mpjpe)

        return min(runs, key=lambda setting: error(runs[setting]))

    def _key(self, job: Job) -> str:
        """Hash of settings, start weights and people: all that a row depends on but the code."""
        settings, ground = deciding(dataclasses.asdict(job.run)), self._ground(job.run)
        parts = [settings, job.is_trial, ground.hashes]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
        self._recognize(key, job, ground)
        return key

    def _recognize(self, key: str, job: Job, ground: Ground) -> None:
        """Takes rows of the same run in, whose key an earlier version made in another way."""
        if not job.is_trial and likeness.has_short_batches(job.run):
            return
        said = likeness.of_run(job.run, ground.hashes[0], ground.worlds)
        for name, alike in self._alike.items():
            if (name == TUNING) == job.is_trial and said in alike:
                self.rows[name].setdefault(key, self.rows[name][alike[said]])

    def _ground(self, run: Run) -> Ground:
        """Hashes of start weights and people; people that are not cached yet are rendered."""
        place = json.dumps(
            [dataclasses.asdict(o) for o in (run.model_options, run.data_options)], default=str
        )
        if place not in self._grounds:
            scene = Job(run).opened()
            people = [scene.train_set, scene.test_set]
            if self.config.scale != "paper":  # whose runs leave nothing to choose
                people.append(Job(run, is_trial=True).opened().test_set)
            hashes = [found.content_hash for found in people]
            worlds = (scene.recipe or {}).get("worlds", {})
            self._grounds[place] = Ground((scene.started_from["sha256"], *hashes), worlds)
        return self._grounds[place]

    def _copied(self, key: str, cell: Cell) -> bool:
        """Whether another comparison holds the run; its rows are then taken over."""
        for name in COMPARISONS:
            for row in self.rows[name].get(key, []):
                self._append(self.config.name, replace(_as_row_of(cell, row), key=key))
            if key in self.rows[self.config.name]:
                return True
        return False

    def note(self, planned: PlannedRun, measured: Measured) -> None:
        """Keeps what a run measured, and what it brought along."""
        cell, run, is_trial = planned.cell, planned.job.run, planned.job.is_trial
        name = TUNING if is_trial else self.config.name
        table = table_of(name, run)
        row = replace(
            measured.row,
            id=planned.id,
            label=planned.label,
            kind=kind_of(run),
            table=table,
            seed=run.seed,
            differs=differs_of(run),
            key=planned.key,
            chosen=planned.chosen,
            config=json.loads(to_json(run)),
        )
        found = [row] if is_trial else [_as_row_of(cell, row)]
        for kind, other in measured.beside.items():
            shared = replace(row, kind=kind, scores=other.scores, people_mm=other.people_mm)
            found.append(_as_row_of(cell, shared))
        for made in stamped(table, found):
            self._append(name, made)
        say(f"  {table} {planned.label}, seed {run.seed}: {told(row)}")

    def _append(self, name: str, row: ResultRow) -> None:
        append(self._file(name), row)
        self.rows[name].setdefault(str(row.key), []).append(row)


def beyond(rates: Collection[float], best: float) -> float | None:
    """The rate to try next while the best is the least or the largest; None where it is neither."""
    further = {min(rates): best / WIDER, max(rates): best * WIDER}.get(best)
    return None if further is None else float(f"{further:.3g}")


def _as_row_of(cell: Cell, row: ResultRow) -> ResultRow:
    """The row under the name that the cell has for its kind."""
    if row.kind == AVERAGED:
        beside = f"{cell.id}-weights-averaged", f"{cell.name}, weights averaged"
    elif row.kind == GENDERED:
        row = replace(row, curve=())
        beside = f"{cell.id}-gendered", f"{cell.name}, against gendered truth"
    elif row.kind == CONSTANT:
        beside = "mean-pose-of-the-training-people", "mean pose of the training people"
    else:
        run, is_bad = cell.base, isinstance(cell.base, AttackedRun)
        defended = run.gate if is_bad and isinstance(run, AttackedRun) else None
        return replace(
            row,
            id=cell.id,
            label=cell.name,
            of_run=cell.id,
            paper=cell.paper,
            contest=cell.contest,
            defended=defended,
        )
    return replace(
        row, id=beside[0], label=beside[1], of_run=cell.id, paper=None, contest=None, defended=None
    )


def whole_lines(path: Path) -> list[ResultRow]:
    """The rows of a file; what a killed run left torn at its end is cut off."""
    if not path.exists():
        return []
    found = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if found and not found[-1].endswith("\n"):
        found.pop()
        write_bytes(path, "".join(found).encode())
    rows = [ResultRow.from_json(json.loads(line)) for line in found]
    return [row for row in rows if row is not None]
