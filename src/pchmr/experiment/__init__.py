"""What `train`, `federate` and `evaluate` do: a scene is opened, run, and written as a run folder.

`run_train`, `run_federate` and `run_evaluate` carry a config out on a scene and write no summary;
the verbs write the run folder around them, and a benchmark's cell makes a row of what they return,
so a table's cell is exactly what a user's command would have written.
"""

import time
from collections.abc import Mapping

import numpy as np
import torch
from scipy import stats

from pchmr import compute
from pchmr.baselines import baselines
from pchmr.config import EvaluateConfig, FederateConfig, TrainConfig
from pchmr.data import planned_columns
from pchmr.data.partition import make_partition
from pchmr.data.pose_clusters import POSE
from pchmr.data.synthetic.recipe import RECIPE_VERSION, SyntheticRecipe
from pchmr.door import FileError
from pchmr.evaluation import Scores, people_mm
from pchmr.evaluation.world import is_in_world, world_scores
from pchmr.examples import write_examples
from pchmr.experiment.gendered import gendered_scores
from pchmr.experiment.scene import (
    LOCAL_EGRESS,
    Config,
    Outcome,
    Scene,
    open_scene,
    run_evaluate,
    run_federate,
    run_train,
)
from pchmr.models import save_checkpoint
from pchmr.progress import bar, console, say
from pchmr.runs import (
    ENVIRONMENT,
    EXAMPLES,
    EXAMPLES_BEFORE,
    MODEL,
    START,
    SUMMARY,
    RunFolder,
    alone,
    num_threads,
    state_sha256,
)
from pchmr.training import num_own_rows

__all__ = [
    "Config",
    "Outcome",
    "Scene",
    "evaluate",
    "federate",
    "open_scene",
    "run_evaluate",
    "run_federate",
    "run_train",
    "train",
]

FEW_IMAGES = 100  # below that a run says how little its held-out images are
CONFIDENCE = 0.95


def _open_run(config: Config, scene: Scene, before: Scores) -> RunFolder:
    """The run folder, as private as the people; says where there is nothing to resume."""
    resume = not isinstance(config, EvaluateConfig) and config.resume
    data_sha256 = scene.train_set.content_hash if scene.is_private else None
    run = RunFolder.create(config.output, config, resume=resume, private_data=data_sha256)
    if resume and run.checkpoints.is_empty:
        say(f"--resume: nothing to resume in {config.output}, the run starts anew")
    elif resume:
        _tell_threads(run)
    _begin(run, scene, before)
    if not isinstance(config, EvaluateConfig) and not (run.path / EXAMPLES_BEFORE).exists():
        _write_examples(run, scene, before, before, config, EXAMPLES_BEFORE)
    return run


def _write_examples(
    run: RunFolder, scene: Scene, scores: Scores, before: Scores, config: Config, name: str
) -> None:
    """What the network makes of the same people in every run from one start.

    Of people who stood before a camera only on demand.
    """
    if config.data_options.with_pictures or not scene.is_private:
        model, people = scene.model, scene.test_set
        write_examples(run.path, model, scene.body, people, scores, ranked_by=before, name=name)


def _tell_threads(run: RunFolder) -> None:
    """Says where the last digits will differ from those of a run that was not stopped."""
    try:
        about = run.read_json(ENVIRONMENT)
    except FileError:  # nothing follows from it but this line
        return
    before, now = about.get("threads") if isinstance(about, dict) else None, num_threads()
    if before not in (None, now):
        say(
            f"--resume: begun with {before} threads, goes on with {now}: the last digits will "
            f"differ from an unbroken run; OMP_NUM_THREADS={before} keeps them"
        )


def _begin(run: RunFolder, scene: Scene, before: Scores) -> None:
    """Writes what is known before the first round, so that a killed run can be reported."""
    known = {
        "before": before.row(),
        "before_egress": LOCAL_EGRESS,
        "started_from": scene.started_from,
        "recipe": scene.recipe,
        "private": scene.is_private,
    }
    run.write_json(START, known)


def _summary(scene: Scene, before: Scores, began: float, outcome: Outcome) -> dict[str, object]:
    after = outcome.scores
    constants = baselines(scene.body, scene.train_set, scene.test_set)
    if scene.has_no_others:
        del constants["mean_pose"]  # fitted on the very people that it would be scored on
    return {
        "kind": outcome.kind,
        "before": before.row(),
        "after": after.row(),
        "baselines": {name: scores.row() for name, scores in constants.items()},
        "per_joint_mm": after.per_joint_mm,
        "per_action_mm": after.per_action_mm,
        "per_sequence_mm": after.per_sequence_mm,
        "data_set": dict(getattr(scene.test_set, "about", {})),
        "acceleration_error_mm": after.acceleration_error_mm,
        "num_test_samples": after.num_samples,
        "num_nonfinite": after.num_nonfinite,
        "mpjpe_half_width_mm": half_width_mm(after),
        "before_people_mm": _people(scene, before),
        "after_people_mm": _people(scene, after),
        "started_from": scene.started_from,
        "recipe": scene.recipe,
        "private": scene.is_private,
        "train_set_sha256": outcome.train_set_sha256,
        "test_set_sha256": outcome.test_set_sha256,
        "body_sha256": outcome.body_sha256,
        "model_sha256": outcome.model_sha256,
        "egress": outcome.egress,
        "bytes_up": outcome.bytes_up,
        "bytes_down": outcome.bytes_down,
        "seconds": time.perf_counter() - began,
    }


def _people(scene: Scene, scores: Scores) -> list[float]:
    """Each held-out person's mean error, for paired differences; of rendered people only."""
    subjects = scene.test_set.columns.get("subject")
    return [] if scene.is_private or subjects is None else list(people_mm(scores, subjects))


def half_width_mm(scores: Scores) -> float | None:
    """Half the width of the 95 % interval of the MPJPE over images; None for fewer than two."""
    known = scores.per_sample_mpjpe_mm[np.isfinite(scores.per_sample_mpjpe_mm)]
    if len(known) < 2:
        return None
    return float(stats.sem(known) * stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1))


def _finished(run: RunFolder, scene: Scene) -> dict[str, object] | None:
    """The summary of a run that was resumed although it was over: its files stay what they are."""
    summary = run.read_json(SUMMARY)
    if summary is None or not (run.path / MODEL).is_file():
        return None
    if summary["model_sha256"] != state_sha256(scene.model.state_dict()):
        return None
    say(f"{run.path} is finished: nothing was left to do")
    return summary


def _finish(
    run: RunFolder,
    scene: Scene,
    outcome: Outcome,
    summary: dict[str, object],
    before: Scores,
    config: Config,
) -> None:
    """Writes weights, examples and, last, the summary that marks the run as finished."""
    note = {"started_from": scene.started_from, "synthetic": scene.recipe is not None}
    run.write_with(MODEL, lambda path: save_checkpoint(path, scene.model, note))
    _write_examples(run, scene, outcome.scores, before, config, EXAMPLES)
    run.write_json(SUMMARY, summary)
    _tell(run, outcome, summary)


def _tell(run: RunFolder, outcome: Outcome, summary: Mapping[str, object]) -> None:
    for name in ("before", "after", "after_gendered"):
        scores = summary.get(name)
        text = ", ".join(
            f"{key.removesuffix('_mm').upper().replace('_', '-')} {value:.1f} mm"
            for key, value in (scores.items() if isinstance(scores, dict) else ())
            if value is not None
        )
        if text:
            say(f"{name:<7} {text}")
    if outcome.scores.num_nonfinite:
        say(
            f"{outcome.scores.num_nonfinite} of {outcome.scores.num_samples} predictions are not "
            "finite: the weights have diverged and have no score; lower --learning-rate"
        )
    if outcome.scores.num_samples < FEW_IMAGES:
        say(how_little(outcome.scores))
    say(f"run folder: {run.path}")


def how_little(scores: Scores) -> str:
    """How much chance is in scores over few images, in words."""
    width, number = half_width_mm(scores), scores.num_samples
    chance = "" if width is None else f"; chance alone moves MPJPE by ± {width:.0f} mm (95 %)"
    return f"scores are over {number} held-out image{'' if number == 1 else 's'} only{chance}"


@alone
def train(config: TrainConfig) -> dict[str, object]:
    """Centralized training; returns the summary written to the run folder.

    Under `torchrun` every process trains on its share of each step; rank 0 alone renders first,
    scores, writes and returns the summary.
    """
    device = compute.pick_device(config.device)
    with compute.joined(device):
        console.quiet = compute.rank() > 0
        return _train(config, device)


def _train(config: TrainConfig, device: torch.device) -> dict[str, object]:
    began = time.perf_counter()
    if config.resume:
        RunFolder(config.output).require_same_config(config)
    scene = open_scene(config)
    before, run = scene.scores(scene.model), RunFolder(config.output)
    with compute.first_alone():
        if compute.rank() == 0:
            run = _open_run(config, scene, before)
    if config.compile:
        compute.compiled(scene.model, device)
    each = num_own_rows(len(scene.train_set), config.optim_options.batch_size)
    with bar("training", config.num_epochs * each) as advance:
        outcome = run_train(config, scene, run, advance)
    if compute.rank():
        return {}
    if held := _finished(run, scene):
        return held
    speed = outcome.rows[-1].get("images_per_second")
    summary = _summary(scene, before, began, outcome)
    summary |= {"num_processes": compute.count(), "images_per_second": speed}
    say(f"trained at {speed:.1f} images/s")
    _finish(run, scene, outcome, summary, before, config)
    return summary


def _refuse_early(config: FederateConfig) -> None:
    """Refuses what can be refused before people are rendered."""
    if config.resume:
        RunFolder(config.output).require_same_config(config)
    data, label = config.data_options, config.partition_options.partition_label
    if data.data is None and label != POSE:
        seed = config.seed if data.data_seed is None else data.data_seed
        recipe = SyntheticRecipe(
            domain=data.domain,
            num_samples=data.num_samples,
            seed=seed,
            version=data.world or RECIPE_VERSION,
        )
        make_partition(config, planned_columns(recipe), data.num_samples)


@alone
def federate(config: FederateConfig) -> dict[str, object]:
    """Federated training; returns the summary written to the run folder."""
    began = time.perf_counter()
    _refuse_early(config)
    scene = open_scene(config)
    before = scene.scores(scene.model)
    run = _open_run(config, scene, before)
    with bar("rounds", config.num_rounds) as advance:
        outcome = run_federate(config, scene, run, lambda: advance(1))
    if held := _finished(run, scene):
        return held
    summary = _summary(scene, before, began, outcome)
    summary["partition_sha256"] = outcome.partition_sha256
    summary |= {} if outcome.own is None else {"clients": outcome.own.plain()}
    summary |= _privacy(config, outcome)
    _finish(run, scene, outcome, summary, before, config)
    return summary


def _privacy(config: FederateConfig, outcome: Outcome) -> dict[str, object]:
    """How updates were put together, and the clients' epsilon: null without noise."""
    known = outcome.guarantee
    if known is not None:
        say(f"differential privacy: {known.words()}")
    return {
        "aggregation": config.privacy_options.aggregation,
        "epsilon": None if known is None else known.epsilon,
        "differential_privacy": None if known is None else known.plain(),
    }


@alone
def evaluate(config: EvaluateConfig) -> dict[str, object]:
    """Scores of the weights as they are; returns the summary written to the run folder."""
    began = time.perf_counter()
    scene = open_scene(config)
    before = scene.scores(scene.model)
    run = _open_run(config, scene, before)
    outcome = run_evaluate(config, scene)
    run.append_row(outcome.rows[0])
    summary = _summary(scene, before, began, outcome)
    beside = gendered_scores(scene, config.model_options.body)
    summary |= {"protocol": config.protocol}
    summary |= {} if beside is None else {"after_gendered": beside.row()}
    if is_in_world(config.protocol):
        summary["world"] = world_scores(scene.model, scene.body, scene.test_set)
    _finish(run, scene, outcome, summary, before, config)
    return summary
