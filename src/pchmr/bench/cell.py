"""Carries out one run of a comparison and measures what its row tells.

A run is a function of its config, its start weights and its people; nothing here knows what the
run is compared with.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pchmr.bench.byzantine import under_attack
from pchmr.body import BodyModel, load_body
from pchmr.compute import pick_device
from pchmr.config import FederateConfig, ModelOptions, TrainConfig
from pchmr.data import load_people
from pchmr.data.partition import label_skew, partition_hash
from pchmr.data.pose_clusters import deal
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.data.synthetic.recipe import Split
from pchmr.evaluation import Scores, baselines, evaluate
from pchmr.federated import World, run_federated
from pchmr.models import HMRModel, load_model
from pchmr.recipes.rows import Run
from pchmr.runs import RunFolder
from pchmr.seeds import derive_seed
from pchmr.training import fit

POINTS = 4  # of a curve, the start not counted
TRIAL_SHARE, TRIAL_LEAST = 0.25, 2  # of the epochs or rounds, for choosing settings
SHOWN_CLIENTS, SHOWN_IMAGES = 50, 8
CLASSES = "action"
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run, and whether it is a short one that is scored on validation people."""

    run: Run
    is_trial: bool = False


@dataclass(frozen=True)
class Scene:
    """What a run stands on."""

    body: BodyModel
    model: HMRModel
    started_from: dict[str, Any]
    train_set: PeopleDataset
    held_out: PeopleDataset

    def scores(self, model: nn.Module) -> Scores:
        """Of a model on the held-out people."""
        return evaluate(model, self.body, self.held_out)


@lru_cache(maxsize=2)
def body_of(path: Path | None, device: str) -> BodyModel:
    """The body, loaded once a process."""
    return load_body(path).to(device)


def start_of(options: ModelOptions, seed: int, image_size: int | None, device: str) -> Any:
    """The network to start from, and what it started from; see `load_model`."""
    hierarchy = body_of(options.body, device).hierarchy
    model, started_from = load_model(options, hierarchy, seed=seed, image_size=image_size)
    return model.to(device), started_from


def open_scene(job: Job) -> Scene:
    """Loads body, network and people of a job."""
    run = job.run
    device = str(pick_device(run.device))
    body = body_of(run.model_options.body, device)
    model, started_from = start_of(run.model_options, run.seed, run.data_options.image_size, device)
    held_out: Split = "validation" if job.is_trial else "test"
    people = [
        load_people(run.data_options, split, body=body, seed=run.seed, image_size=model.image_size)
        for split in ("train", held_out)
    ]
    return Scene(body, model, started_from, *people)


def shortened(run: Run) -> Run:
    """The run with a share of its epochs or rounds, at least `TRIAL_LEAST` where it has them."""
    if isinstance(run, TrainConfig):
        return replace(run, num_epochs=_few(run.num_epochs))
    if isinstance(run, FederateConfig):
        return replace(run, num_rounds=_few(run.num_rounds))
    return run


def _few(number: int) -> int:
    return min(number, max(TRIAL_LEAST, round(TRIAL_SHARE * number)))


def measure(job: Job, folder: Path | None = None) -> Row:
    """Carries a job out on one thread; returns its scores and what else the row holds.

    Args:
        job: The run.
        folder: Keeps the rounds of a federated run that is stopped, for the next call to go on
            from; removed at the end.
    """
    torch.set_num_threads(1)
    began, spent = time.perf_counter(), time.process_time()
    scene = open_scene(job)
    run = shortened(job.run) if job.is_trial else job.run
    if isinstance(run, TrainConfig):
        row = _centralized(run, scene, job.is_trial)
    elif isinstance(run, FederateConfig):
        row = _federated(run, scene, job.is_trial, folder)
    else:
        row = _scored(scene.scores(scene.model), scene.held_out)
        constant = baselines(scene.body, scene.train_set, scene.held_out)["mean_pose"]
        row["constant"] = _scored(constant, scene.held_out)
    row["started_from"] = scene.started_from
    row["recipe"] = getattr(scene.train_set, "origin", None)
    row["cpu_seconds"] = round(time.process_time() - spent, 1)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def _scored(scores: Scores, held_out: PeopleDataset) -> Row:
    """The three scores, and the mean error over each held-out person's images."""
    subjects, codes = np.unique(held_out.columns["subject"], return_inverse=True)
    sums = np.bincount(codes, scores.per_sample_mpjpe_mm, minlength=len(subjects))
    means = sums / np.bincount(codes)
    rounded = {name: None if v is None else round(v, 3) for name, v in scores.row().items()}
    return {"scores": rounded, "people_mm": np.round(means, 2).tolist()}


class Average:
    """The mean of the weights after each step of a run's second half.

    Source: Izmailov et al. 2018, arXiv 1803.05407 (without its cyclic learning rate).
    """

    def __init__(self, model: nn.Module, num_seen: int) -> None:
        self._weights: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._means = [torch.zeros_like(p) for p in self._weights]
        self._left, self._steps = num_seen / 2, 0

    @torch.no_grad()
    def __call__(self, count: int) -> None:
        """Counts a step over so many images."""
        self._left -= count
        if self._left < 0:
            self._steps += 1
            torch._foreach_lerp_(self._means, self._weights, 1 / self._steps)

    @torch.no_grad()
    def load(self) -> None:
        """Puts the mean into the model."""
        for weight, mean in zip(self._weights, self._means, strict=True):
            weight.copy_(mean)


def _centralized(run: TrainConfig, scene: Scene, is_trial: bool) -> Row:
    """Trains; with the mean of the second half's weights as `averaged`."""
    size = len(scene.train_set)
    average = Average(scene.model, run.num_epochs * size)
    stored = int(getattr(scene.train_set, "stored_bytes", 0))
    every = 0 if is_trial else max(1, run.num_epochs // POINTS)
    curve = []

    def note(model: nn.Module) -> Mapping[str, Any]:
        epoch = min((len(curve) + 1) * every, run.num_epochs)
        curve.append([epoch, epoch * size, stored, scene.scores(model).mpjpe_mm])
        return {}

    fit(
        scene.model, scene.body, scene.train_set, replace(run, evaluate_every=every),
        evaluate_fn=None if is_trial else note, on_step=average,
    )  # fmt: skip
    row = _scored(scene.scores(scene.model), scene.held_out) | {"curve": curve}
    if not is_trial:
        average.load()
        row["averaged"] = _scored(scene.scores(scene.model), scene.held_out)
    return row


def _federated(run: FederateConfig, scene: Scene, is_trial: bool, folder: Path | None) -> Row:
    """Runs the rounds; tells the curve, the clients' errors and what travelled."""
    parts = deal(run, scene.train_set)
    world = World(scene.model, scene.body, scene.train_set, parts)
    every = 0 if is_trial else max(1, run.num_rounds // POINTS)
    with tempfile.TemporaryDirectory() as scratch, under_attack(run, world) as (settings, met):
        result = run_federated(
            replace(settings, evaluate_every=every, resume=True), met,
            RunFolder(folder or Path(scratch)),
            evaluate_fn=None if is_trial else lambda model: scene.scores(model).row(),
        )  # fmt: skip
    if folder is not None:
        shutil.rmtree(folder)
    row = _scored(scene.scores(scene.model), scene.held_out)
    if is_trial:
        return row
    row |= {
        "curve": _curve(result.rows),
        "quarantined": sum(len(found["quarantined"]) for found in result.rows),
        "partition_sha256": partition_hash(parts),
    }
    row |= _clients(run, scene, parts)
    row["scores"] |= {
        "client_sd_mm": round(float(np.std(row["clients_mm"], ddof=1)), 3),
        "client_worst_decile_mm": round(float(np.quantile(row["clients_mm"], 0.9)), 3),
    }
    return row


def _curve(rows: list[Row]) -> list[list[Any]]:
    """Round, images trained on so far, bytes so far in both directions, MPJPE."""
    points, seen, moved = [], 0, 0
    for row in rows:
        seen += row["num_samples"]
        moved += row["bytes_up"] + row["bytes_down"]
        if row.get("mpjpe_mm") is not None:
            points.append([row["round"], seen, moved, row["mpjpe_mm"]])
    return points


def _clients(run: FederateConfig, scene: Scene, parts: list[np.ndarray]) -> Row:
    """Errors of the final model on images of some clients, and how skewed those clients are."""
    rng = np.random.default_rng(derive_seed(run.seed, "shown"))
    shown = np.sort(rng.permutation(len(parts))[:SHOWN_CLIENTS])
    rows = [rng.permutation(parts[client])[:SHOWN_IMAGES] for client in shown]
    people = Subset(scene.train_set, np.concatenate(rows))
    errors = evaluate(scene.model, scene.body, people).per_sample_mpjpe_mm
    ends = np.cumsum([len(r) for r in rows])[:-1]
    skew = label_skew(scene.train_set.columns[CLASSES], parts)
    return {
        "clients_mm": [round(float(part.mean()), 2) for part in np.split(errors, ends)],
        "client_skew": np.round(skew[shown], 4).tolist(),
        "mean_skew": round(float(skew.mean()), 4),
        "client_samples": [min(map(len, parts)), max(map(len, parts))],
    }
