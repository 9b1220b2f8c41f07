"""Carries out one run of a comparison, as the verbs do, and makes rows of what came of it.

A run is a function of its config, its start weights and its people; nothing here knows what the
run is compared with. What rows tell beyond a run's own scores is measured on its last weights.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pchmr.baselines import baselines
from pchmr.bench.average import Average
from pchmr.bench.byzantine import under_attack
from pchmr.bench.ladder import climb
from pchmr.config import DivergedError, EvaluateConfig, FederateConfig, SettingError, TrainConfig
from pchmr.data.partition import label_skew
from pchmr.data.sample import Subset
from pchmr.evaluation import Scores, evaluate, people_mm
from pchmr.experiment.gendered import gendered_scores
from pchmr.experiment.scene import (
    Outcome,
    Row,
    Scene,
    held_out_people,
    open_scene,
    run_evaluate,
    run_federate,
    run_train,
    world_of,
)
from pchmr.federated import FederatedResult, World, run_federated
from pchmr.recipes.cells import LadderRun, Run
from pchmr.results import (
    AVERAGED,
    CENTRALIZED,
    CONSTANT,
    CONTROL,
    GENDERED,
    VALIDATION,
    CurvePoint,
    Number,
    Recipe,
    ResultRow,
    Start,
)
from pchmr.runs import RunFolder
from pchmr.seeds import derive_seed

POINTS = 4  # of a curve, the start not counted
TRIAL_SHARE, TRIAL_LEAST = 0.25, 2  # of the epochs or rounds, for choosing settings
SHOWN_CLIENTS, SHOWN_IMAGES = 50, 8
CLASSES = "action"
SCORE_NAMES = ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm")


@dataclass(frozen=True)
class Job:
    """A run, and whether it is a short one that is scored on validation people."""

    run: Run
    is_trial: bool = False

    def opened(self) -> Scene:
        """What the run stands on."""
        return open_scene(self.run, "validation" if self.is_trial else "test")


@dataclass(frozen=True)
class Measured:
    """What a job found: its own row, and the rows that it brings along, by kind.

    They have no name, table or key yet; whoever gave the job knows these.
    """

    row: ResultRow
    beside: Mapping[str, ResultRow] = field(default_factory=dict)


def shortened(run: Run) -> Run:
    """The run with a share of its epochs or rounds, at least `TRIAL_LEAST` where it has them."""
    if isinstance(run, TrainConfig):
        return replace(run, num_epochs=_share_of(run.num_epochs))
    if isinstance(run, FederateConfig):
        return replace(run, num_rounds=_share_of(run.num_rounds))
    return run


def _share_of(number: int) -> int:
    """Epochs or rounds of a short run."""
    return min(number, max(TRIAL_LEAST, round(TRIAL_SHARE * number)))


def attempt(job: Job, folder: Path) -> Measured:
    """What a job measured, or why it came to nothing: one bad setting stops no comparison.

    What a stopped run left behind and cannot be gone on from is dropped, and the run starts anew.
    A run that diverges is a result like any other and is not tried again.
    """
    try:
        return measure(job, folder)
    except DivergedError as error:
        shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on from
        return Measured(came_to_nothing(str(error)))
    except SettingError:
        if not folder.exists():
            raise
    shutil.rmtree(folder)
    return attempt(job, folder)


def came_to_nothing(why: str) -> ResultRow:
    """The row of a run without scores."""
    return ResultRow(id="", label="", scores=dict.fromkeys(SCORE_NAMES), failed=why)


def measure(job: Job, folder: Path | None = None) -> Measured:
    """Carries a job out on one thread.

    Args:
        job: The run.
        folder: Keeps the epochs or rounds of a run that is stopped, for the next call to go on
            from; removed at the end.

    Raises:
        DivergedError: The run has no usable end.
        SettingError: What is left in the folder cannot be gone on from.
    """
    torch.set_num_threads(1)
    began, spent = time.perf_counter(), time.process_time()
    scene = job.opened()
    run = shortened(job.run) if job.is_trial else job.run
    if isinstance(run, TrainConfig):
        found = _centralized(run, scene, job.is_trial, folder)
    elif isinstance(run, LadderRun):
        found = _climbed(run, scene, job.is_trial)
    elif isinstance(run, FederateConfig):
        found = _federated(run, scene, job.is_trial, folder)
    else:
        found = _before(run, scene)
    seconds = round(time.perf_counter() - began, 1)
    cpu_seconds = round(time.process_time() - spent, 1)
    return replace(found, row=replace(found.row, cpu_seconds=cpu_seconds, seconds=seconds))


def _row_of(outcome: Outcome, scene: Scene) -> ResultRow:
    """What every row tells of its run."""
    recipe = scene.recipe
    made = replace(
        _scored(outcome.scores, scene),
        kind=outcome.kind,
        started_from=Start.of(outcome.started_from),
        model_sha256=outcome.model_sha256,
    )
    return made if recipe is None else replace(made, recipe=Recipe(**recipe))


def _scored(scores: Scores, scene: Scene) -> ResultRow:
    """The three scores, and the mean error over each held-out person's images."""
    rounded = {name: None if v is None else round(v, 3) for name, v in scores.row().items()}
    known = people_mm(scores, scene.test_set.columns["subject"])
    return ResultRow(id="", label="", scores=rounded, people_mm=known)


def _before(run: EvaluateConfig, scene: Scene) -> Measured:
    """The start weights as they are, and a constant fitted on the training people."""
    outcome = run_evaluate(run, scene)
    constant = baselines(scene.body, scene.train_set, scene.test_set)["mean_pose"]
    beside = {CONSTANT: replace(_scored(constant, scene), kind=CONSTANT)}
    row = replace(_row_of(outcome, scene), kind="before")
    return Measured(row, beside | _gendered(run, scene))


def _gendered(
    run: EvaluateConfig | TrainConfig | FederateConfig, scene: Scene
) -> dict[str, ResultRow]:
    """The same against meshes of each person's own gender, where there are such bodies."""
    scores = gendered_scores(scene, run.model_options.body)
    return {} if scores is None else {GENDERED: replace(_scored(scores, scene), kind=GENDERED)}


def _centralized(run: TrainConfig, scene: Scene, is_trial: bool, folder: Path | None) -> Measured:
    """Trains; with the mean of the second half's weights beside it."""
    size = len(scene.train_set)
    average = Average(scene.model, run.num_epochs * size)
    every = 0 if is_trial else max(1, run.num_epochs // POINTS)
    settings = replace(run, evaluate_every=every, resume=True)
    kept = None if folder is None else RunFolder(folder)
    outcome = run_train(settings, scene, kept, on_step=average, beside=average.state)
    if folder is not None:
        shutil.rmtree(folder)
    row = _row_of(outcome, scene)
    if is_trial:
        return Measured(row)
    curve = tuple(
        CurvePoint(epoch["round"], epoch["round"] * size, outcome.bytes_up, epoch["mpjpe_mm"])
        for epoch in outcome.rows
        if epoch.get("mpjpe_mm") is not None
    )
    row = _with_validation(row, run, scene)
    beside = _gendered(run, scene)
    average.load()
    averaged = replace(_scored(scene.scores(scene.model), scene), kind=AVERAGED)
    return Measured(replace(row, kind=CENTRALIZED, curve=curve), {AVERAGED: averaged} | beside)


def _climbed(run: LadderRun, scene: Scene, is_trial: bool) -> Measured:
    """Trains on a rung of the ladder; tells its curve. Nothing travels."""
    world = world_of(run, scene)
    every = run.num_rounds if is_trial else max(1, run.num_rounds // POINTS)
    curve, held = [], len(scene.train_set)

    def score(number: int) -> None:
        if number % every == 0 or number == run.num_rounds:
            found = scene.scores(scene.model).mpjpe_mm or float("nan")
            curve.append(CurvePoint(number, number * run.local_epochs * held, 0, found))

    climb(run, run.rung, world, score)
    outcome = run_evaluate(run, scene)
    row = replace(_row_of(outcome, scene), kind=CONTROL)
    if is_trial:
        return Measured(row)
    return Measured(_with_validation(replace(row, curve=tuple(curve)), run, scene))


def _federated(run: FederateConfig, scene: Scene, is_trial: bool, folder: Path | None) -> Measured:
    """Runs the rounds; tells the curve, the clients' errors and what travelled."""
    every = 0 if is_trial else max(1, run.num_rounds // POINTS)
    settings = replace(run, evaluate_every=every, resume=True)
    with tempfile.TemporaryDirectory() as scratch:
        kept = RunFolder(folder or Path(scratch))
        outcome = run_federate(settings, scene, kept, federated=_federated_under_attack)
    if folder is not None:
        shutil.rmtree(folder)
    row = _row_of(outcome, scene)
    if is_trial:
        return Measured(row)
    row = replace(
        row,
        curve=_curve(outcome.rows),
        quarantined=sum(len(found["quarantined"]) for found in outcome.rows),
        partition_sha256=outcome.partition_sha256,
    )
    row = _with_validation(row, run, scene)
    row = _with_clients(row, run, scene, outcome.partitions)
    return Measured(row, _gendered(run, scene))


def _with_validation(row: ResultRow, run: TrainConfig | FederateConfig, scene: Scene) -> ResultRow:
    """The row with the error on validation people, by which the best of several rows is chosen.

    Folders of people hold no third part.
    """
    if run.data_options.data is not None:
        return row
    people = held_out_people(run, scene, "validation")
    found = evaluate(scene.model, scene.body, people).mpjpe_mm
    told = {} if found is None else {VALIDATION: round(found, 3)}
    return replace(row, scores={**row.scores, **told})


def _federated_under_attack(
    config: FederateConfig, world: World, run: RunFolder, **more: Any
) -> FederatedResult:
    """Runs rounds in which the clients that a run names mean harm; all are honest without."""
    met = under_attack(config, world)
    return run_federated(met.config, met.world, run, engine=met.engine, gate=met.gate, **more)


def _curve(rows: list[Row]) -> tuple[CurvePoint, ...]:
    """The scores of the rounds, with images and bytes up to each."""
    points, seen, moved = [], 0, 0
    for row in rows:
        seen += row["num_samples"]
        moved += row["bytes_up"] + row["bytes_down"]
        if row.get("mpjpe_mm") is not None:
            points.append(CurvePoint(row["round"], seen, moved, row["mpjpe_mm"]))
    return tuple(points)


def _with_clients(
    row: ResultRow, run: FederateConfig, scene: Scene, parts: list[np.ndarray]
) -> ResultRow:
    """The row with errors on images of some clients, and how skewed those clients are."""
    rng = np.random.default_rng(derive_seed(run.seed, "shown"))
    shown = np.sort(rng.permutation(len(parts))[:SHOWN_CLIENTS])
    images = [rng.permutation(parts[client])[:SHOWN_IMAGES] for client in shown]
    people = Subset(scene.train_set, np.concatenate(images))
    errors = evaluate(scene.model, scene.body, people).per_sample_mpjpe_mm
    ends = np.cumsum([len(r) for r in images])[:-1]
    skew = label_skew(scene.train_set.columns[CLASSES], parts)
    clients_mm = [round(float(part.mean()), 2) for part in np.split(errors, ends)]
    spread: dict[str, Number] = {}
    if len(clients_mm) > 1:
        spread["client_sd_mm"] = round(float(np.std(clients_mm, ddof=1)), 3)
        spread["client_worst_decile_mm"] = round(float(np.quantile(clients_mm, 0.9)), 3)
    return replace(
        row,
        scores={**row.scores, **spread},
        clients_mm=tuple(clients_mm),
        client_skew=tuple(np.round(skew[shown], 4).tolist()),
        mean_skew=round(float(skew.mean()), 4),
        client_samples=(min(map(len, parts)), max(map(len, parts))),
    )
