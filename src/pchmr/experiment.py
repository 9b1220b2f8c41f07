"""Runs one config to a finished run folder: train, federate, evaluate.

The same three functions serve the command line, the demo and every recipe, so a table's cell is
exactly what a user's command would have written.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pchmr import compute
from pchmr.body import BodyModel, load_body
from pchmr.body.files import BodyFileError
from pchmr.config import EvaluateConfig, FederateConfig, TrainConfig
from pchmr.data import load_people, planned_columns
from pchmr.data.partition import make_partition, partition_hash
from pchmr.data.pose_clusters import POSE, deal
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.recipe import Split, SyntheticRecipe
from pchmr.evaluation import Scores, baselines, by_protocol
from pchmr.evaluation import evaluate as evaluate_model
from pchmr.examples import write_examples
from pchmr.federated import World, run_federated
from pchmr.models import HMRModel, load_model, save_checkpoint
from pchmr.progress import bar, console, say
from pchmr.runs import MODEL, START, SUMMARY, RunFolder, state_sha256
from pchmr.training import fit, num_own_rows

Config = TrainConfig | FederateConfig | EvaluateConfig
CENTRALIZED_EGRESS = {
    "leaves_client": "raw images and mesh labels",
    "server_sees": "training data and model",
}
LOCAL_EGRESS = {"leaves_client": "nothing", "server_sees": "nothing"}


@dataclass
class Scene:
    """Everything an experiment stands on, and what is measured before it starts."""

    body: BodyModel
    model: HMRModel
    started_from: dict[str, Any]
    train_set: PeopleDataset
    test_set: PeopleDataset
    scores: Scores
    bf16: bool = False

    @property
    def recipe(self) -> dict[str, Any] | None:
        """Of rendered people, see `origin_of`; None of others."""
        return getattr(self.train_set, "origin", None)

    def row(self, model: nn.Module) -> dict[str, Any]:
        """Scores of a model on the held-out people; keeps them for the summary."""
        self.scores = evaluate_model(model, self.body, self.test_set, bf16=self.bf16)
        return self.scores.row()


def open_scene(config: Config) -> Scene:
    """Loads body, model and people; renders embedded people that are not cached yet."""
    device = compute.pick_device(config.device)
    data = config.data_options
    body = load_body(config.model_options.body).to(device)
    model, started_from = load_model(
        config.model_options, body.hierarchy, seed=config.seed, image_size=data.image_size
    )
    model.to(device)
    with compute.first_alone():
        sets = _people(config, body, model.image_size)
    bf16 = isinstance(config, EvaluateConfig) and config.bf16
    scores = evaluate_model(model, body, sets["test"], bf16=bf16)
    return Scene(body, model, started_from, sets["train"], sets["test"], scores, bf16)


def _people(config: Config, body: BodyModel, image_size: int) -> dict[Split, PeopleDataset]:
    """The people to learn from and the held-out ones, as the protocol of an evaluation wants."""
    data = config.data_options
    sets: dict[Split, PeopleDataset] = {}
    counts: dict[Split, int] = {"train": data.num_samples, "test": data.num_test_samples}
    for split, count in counts.items():
        with bar(f"people of {data.domain}, {split}", count) as advance:
            sets[split] = load_people(
                data, split, body=body, seed=config.seed, image_size=image_size,
                progress=advance.to,
            )  # fmt: skip
            advance.to(count, count)
    if isinstance(config, EvaluateConfig):
        sets["test"] = by_protocol(sets["test"], config.protocol, config.joint_truth)
    return sets


def _begin(run: RunFolder, scene: Scene) -> None:
    """Writes what is known before the first round, so that a killed run can be reported."""
    known = {
        "before": scene.scores.row(),
        "before_egress": LOCAL_EGRESS,
        "started_from": scene.started_from,
        "recipe": scene.recipe,
    }
    run.write_json(START, known)


def _summary(scene: Scene, before: Scores, began: float, **more: Any) -> dict[str, Any]:
    after = scene.scores
    constants = baselines(scene.body, scene.train_set, scene.test_set)
    return {
        "before": before.row(),
        "after": after.row(),
        "baselines": {name: scores.row() for name, scores in constants.items()},
        "per_joint_mm": after.per_joint_mm,
        "per_action_mm": after.per_action_mm,
        "acceleration_error_mm": after.acceleration_error_mm,
        "num_test_samples": after.num_samples,
        "started_from": scene.started_from,
        "recipe": scene.recipe,
        "train_set_sha256": scene.train_set.content_hash,
        "test_set_sha256": scene.test_set.content_hash,
        "body_sha256": scene.body.sha256,
        "model_sha256": state_sha256(scene.model.state_dict()),
        "seconds": time.perf_counter() - began,
        **more,
    }


def _gendered(scene: Scene, config: EvaluateConfig) -> dict[str, Any]:
    """Scores against meshes of each person's own gender, where labels and body files have them.

    3DPW's truth in the papers comes from the neutral body, although its labels carry a gender.
    """
    path, genders = config.model_options.body, scene.test_set.columns.get("gender")
    if path is None or not path.is_dir() or genders is None:
        return {}
    device = scene.body.v_template.device
    try:
        bodies = {
            str(gender): load_body(path, gender=str(gender)).to(device)
            for gender in np.unique(genders)
        }
    except BodyFileError as error:
        say(f"scores against gendered truth are left out: {error}")
        return {}
    scores = evaluate_model(scene.model, scene.body, scene.test_set, bodies=bodies, bf16=scene.bf16)
    return {"after_gendered": scores.row()}


def _finish(run: RunFolder, scene: Scene, summary: dict[str, Any]) -> dict[str, Any]:
    """Writes weights, examples and, last, the summary that marks the run as finished."""
    note = {"started_from": scene.started_from, "synthetic": scene.recipe is not None}
    run.write_with(MODEL, lambda path: save_checkpoint(path, scene.model, note))
    write_examples(run.path, scene.model, scene.body, scene.test_set, scene.scores)
    run.write_json(SUMMARY, summary)
    return summary


def _tell(run: RunFolder, summary: dict[str, Any]) -> None:
    for name in ("before", "after", "after_gendered"):
        scores = summary.get(name, {})
        text = ", ".join(
            f"{key.removesuffix('_mm').upper().replace('_', '-')} {value:.1f} mm"
            for key, value in scores.items()
            if value is not None
        )
        if text:
            say(f"{name:<7} {text}")
    say(f"run folder: {run.path}   next: pchmr report {run.path}")


def train(config: TrainConfig) -> dict[str, Any]:
    """Centralized training; returns the summary written to the run folder.

    Under `torchrun` every process trains on its share of each step; rank 0 alone renders first,
    scores, writes and returns the summary.
    """
    device = compute.pick_device(config.device)
    with compute.joined(device):
        console.quiet = compute.rank() > 0
        return _train(config, device)


def _train(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    began = time.perf_counter()
    if config.resume:
        RunFolder(config.output).require_same_config(config)
    scene = open_scene(config)
    run, before = RunFolder(config.output), scene.scores
    with compute.first_alone():
        if compute.rank() == 0:
            run = RunFolder.create(config.output, config, resume=config.resume)
            _begin(run, scene)
    if config.compile:
        compute.compiled(scene.model, device)
    each = num_own_rows(len(scene.train_set), config.optim_options.batch_size)
    with bar("training", config.num_epochs * each) as advance:
        rows = fit(
            scene.model, scene.body, scene.train_set, config,
            run=run, evaluate_fn=scene.row, on_step=advance,
        )  # fmt: skip
    if compute.rank():
        return {}
    summary = _summary(
        scene, before, began, egress=CENTRALIZED_EGRESS, kind="centralized",
        bytes_up=getattr(scene.train_set, "stored_bytes", 0), bytes_down=0,
        num_processes=compute.count(), images_per_second=rows[-1].get("images_per_second"),
    )  # fmt: skip
    say(f"trained at {rows[-1]['images_per_second']:.1f} images/s")
    _tell(run, _finish(run, scene, summary))
    return summary


def _refuse_early(config: FederateConfig) -> None:
    """Refuses what can be refused before people are rendered."""
    if config.resume:
        RunFolder(config.output).require_same_config(config)
    data, label = config.data_options, config.partition_options.partition_label
    if data.data is None and label != POSE:
        seed = config.seed if data.data_seed is None else data.data_seed
        recipe = SyntheticRecipe(domain=data.domain, num_samples=data.num_samples, seed=seed)
        make_partition(config, planned_columns(recipe), data.num_samples)


def federate(config: FederateConfig) -> dict[str, Any]:
    """Federated training; returns the summary written to the run folder."""
    began = time.perf_counter()
    _refuse_early(config)
    scene = open_scene(config)
    run = RunFolder.create(config.output, config, resume=config.resume)
    before = scene.scores
    parts = deal(config, scene.train_set)
    world = World(model=scene.model, body=scene.body, train_set=scene.train_set, partitions=parts)
    _begin(run, scene)
    with bar("rounds", config.num_rounds) as advance:
        result = run_federated(
            config, world, run, evaluate_fn=scene.row, on_round=lambda _: advance(1)
        )
    summary = _summary(
        scene, before, began, egress=result.egress, kind="federated",
        bytes_up=result.bytes_up, bytes_down=result.bytes_down,
        partition_sha256=partition_hash(parts),
    )  # fmt: skip
    _tell(run, _finish(run, scene, summary))
    return summary


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Scores of the weights as they are; returns the summary written to the run folder."""
    began = time.perf_counter()
    scene = open_scene(config)
    run = RunFolder.create(config.output, config)
    _begin(run, scene)
    run.append_row({"round": 0, **scene.scores.row()})
    summary = _summary(
        scene, scene.scores, began, egress=LOCAL_EGRESS, kind="evaluation", bytes_up=0,
        bytes_down=0, protocol=config.protocol, **_gendered(scene, config),
    )  # fmt: skip
    _tell(run, _finish(run, scene, summary))
    return summary
