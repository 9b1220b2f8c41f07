"""One code path for every paradigm: centralized epochs, a client's local epoch, personalization.

`train_epoch` is a function of (weights, data, seed); it reads no clock and no global random state,
so a client that holds all data computes exactly one centralized epoch. Scores come in as a
function; evaluation is never imported here.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pchmr import compute
from pchmr.body import BodyModel
from pchmr.config import DivergedError, OptimOptions, TrainConfig, require
from pchmr.data.augment import training_batch
from pchmr.data.sample import PeopleDataset, RenewedPeople, Sample
from pchmr.door import Json
from pchmr.losses import LOSSES, targets
from pchmr.losses import keypoints as keypoint_terms
from pchmr.models import HMRModel
from pchmr.muon import Muon
from pchmr.runs import RunFolder
from pchmr.runs.state import EMPTY, identity_of, load_state, save_state
from pchmr.seeds import derive_seed

Schedule = Callable[[float], float]
OnStep = Callable[[int], None]


@dataclass(frozen=True)
class EpochStats:
    """What one epoch did: images seen, and the mean of every loss term."""

    num_samples: int
    losses: dict[str, float]


def new_optimizer(model: nn.Module, options: OptimOptions) -> torch.optim.Optimizer:
    """A fresh optimizer over the trainable weights (FastMETRO and TORE: AdamW)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "muon":
        return Muon(parameters, rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, foreach=True)


def loss_name(model: nn.Module, options: OptimOptions) -> str:
    """The loss recipe asked for, or the one that the model's spec names."""
    if options.loss != "auto":
        return options.loss
    spec = getattr(model, "spec", None)
    return "fastmetro" if spec is None else spec.loss


def constant(_: float) -> float:
    """Learning-rate factor 1 throughout."""
    return 1.0


def schedule(
    kind: str, num_epochs: int, warmup_epochs: float = 0.0, first_epoch: int = 0
) -> Schedule:
    """Factor on the learning rate as a function of the fractional epoch of a stage."""

    def factor(epoch: float) -> float:
        epoch -= first_epoch
        warm = min(1.0, (epoch + 1e-3) / warmup_epochs) if warmup_epochs else 1.0
        done = min(epoch / num_epochs, 1.0)
        if kind == "cosine":
            return warm * max(0.5 * (1 + math.cos(math.pi * done)), 0.01)
        if kind == "step":
            return warm * (0.1 if done >= 0.5 else 1.0)
        return warm

    return factor


def train_epoch(
    model: nn.Module,
    body: BodyModel,
    dataset: PeopleDataset,
    optimizer: torch.optim.Optimizer,
    options: OptimOptions,
    *,
    seed: int,
    epoch: float = 0.0,
    factor: Schedule = constant,
    on_step: OnStep | None = None,
) -> EpochStats:
    """One pass over the data in an order drawn from `seed`; changes `model` and `optimizer`.

    Args:
        model: Network in any mode; left in training mode.
        body: Body whose mesh the truth is made of.
        dataset: People to learn from, every row once.
        optimizer: State to go on with; its learning rate is set every step.
        options: Batch size, clipping, loss, augmentation, precision.
        seed: Decides order, augmentation and dropout.
        epoch: Epochs behind, for schedules and epoch-dependent losses.
        factor: Learning-rate factor at a fractional epoch.
        on_step: Called with the number of images of each step.

    Raises:
        DivergedError: A loss turned NaN or infinite.
    """
    model.train()
    order, generator = _order(len(dataset), seed)
    totals, seen = defaultdict[str, float](float), 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "dropout", compute.rank()))
        for rows, start in _shares(order, options.batch_size):
            now = epoch + start / len(order)
            set_rate(optimizer, options.learning_rate * factor(now))
            taken = rows if len(rows) else order[:1]
            sample = training_batch(dataset, taken, generator, options)
            terms = train_step(
                model, body, sample, optimizer, options, epoch=now, weight=float(len(rows))
            )
            for name, value in terms.items():
                totals[name] += value * len(rows)
            seen += len(rows)
            if on_step:
                on_step(len(rows))
    compute.share_buffers(model)
    return EpochStats(len(order), {name: total / seen for name, total in totals.items()})


def epoch_batches(
    num_samples: int, batch_size: int, seed: int
) -> tuple[list[np.ndarray], torch.Generator]:
    """The batches of an epoch that is drawn from `seed`, and what augments them in that order."""
    order, generator = _order(num_samples, seed)
    return [rows for rows, _ in _shares(order, batch_size)], generator


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _order(num_samples: int, seed: int) -> tuple[np.ndarray, torch.Generator]:
    """The order of an epoch, the same in every process, and what augments, which is not."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_samples, generator=generator).numpy()
    if compute.rank():
        generator.manual_seed(derive_seed(seed, "rank", compute.rank()))
    return order, generator


def _shares(order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """This process's rows of every step, and how many rows all processes had before it.

    Steps are as few as the batch size allows, and alike within a row: no last batch of one or two
    people steers as much as a whole one. Processes share every step alike; where it has fewer rows
    than there are processes, some have none.
    """
    num_steps = math.ceil(len(order) / (batch_size * compute.count()))
    for start, rows in _alike(order, num_steps):
        yield list(_alike(rows, compute.count()))[compute.rank()][1], start


def _alike(rows: np.ndarray, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """So many pieces, alike in length within one, each with the rows before it."""
    pieces = np.array_split(rows, count)
    starts = np.cumsum([0, *map(len, pieces)])
    return zip(starts.tolist(), pieces, strict=False)


def num_own_rows(num_samples: int, batch_size: int) -> int:
    """Rows of an epoch that this process sees."""
    return sum(len(rows) for rows, _ in _shares(np.arange(num_samples), batch_size))


def train_step(
    model: nn.Module,
    body: BodyModel,
    sample: Sample,
    optimizer: torch.optim.Optimizer,
    options: OptimOptions,
    *,
    epoch: float,
    weight: float = 1.0,
) -> dict[str, float]:
    """One gradient step on a batch; returns the weighted loss terms.

    `weight` is this process's share where several processes step together.
    """
    sample = sample.to(body.v_template.device)
    terms = step_terms(model, body, sample, options, epoch=epoch)
    total = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(total):
        raise DivergedError(
            f"the loss became {total.item()} at epoch {epoch:.2f}; lower --learning-rate"
        )
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    compute.average_gradients(model, weight)
    _clip(model, options)
    optimizer.step()
    return {name: float(value.detach()) for name, value in terms.items()}


def step_terms(
    model: nn.Module, body: BodyModel, sample: Sample, options: OptimOptions, *, epoch: float
) -> dict[str, Tensor]:
    """The weighted loss terms of a batch: of the mesh, or of the keypoint head alone."""
    with torch.no_grad():
        target = targets(sample, body)
    device = body.v_template.device.type
    if options.loss == "keypoints":
        with torch.autocast(device, torch.bfloat16, enabled=options.bf16):
            seen = cast(HMRModel, model).keypoints(sample.images)
        return keypoint_terms(seen.places, seen.depths, seen.maps, target)
    with torch.autocast(device, torch.bfloat16, enabled=options.bf16):
        output = model(sample.images)
    loss = LOSSES[loss_name(model, options)]
    return loss(
        output,
        target,
        body,
        epoch=epoch,
        paper=options.paper_losses,
        surface=options.surface_terms,
    )


def _clip(model: nn.Module, options: OptimOptions) -> None:
    if options.clip_by == "norm":
        nn.utils.clip_grad_norm_(model.parameters(), options.clip)
    else:
        nn.utils.clip_grad_value_(model.parameters(), options.clip)


def fit(
    model: nn.Module,
    body: BodyModel,
    dataset: PeopleDataset,
    config: TrainConfig,
    *,
    run: RunFolder | None = None,
    evaluate_fn: Callable[[nn.Module], Mapping[str, Any]] | None = None,
    on_step: OnStep | None = None,
    beside: Mapping[str, Tensor] = EMPTY,
) -> list[Json]:
    """Trains for `config.num_epochs` and returns a row per epoch (also into the run folder).

    With a run folder the state is saved after every epoch, and `config.resume` goes on from it to
    the same weights that an uninterrupted run reaches, `beside` (what `on_step` changes) included;
    a run with no epoch left is scored all the same. Of several processes rank 0 alone scores and
    writes.

    Raises:
        SettingError: `config.resume` meets another run, or one that is damaged.
    """
    optimizer = new_optimizer(model, config.optim_options)
    rows, identity = [], {}
    if run:
        if dataset.is_private:
            run.keep_private()
        hashes = {"data": dataset.content_hash, "body": body.sha256}
        identity = identity_of(config, model, hashes)
        if config.resume:
            rows = load_state(run, model, optimizer, identity, beside)
    first = _first_epoch(config, rows, run)
    for epoch in range(first, config.num_epochs):
        row = _epoch_row(model, body, dataset, optimizer, config, epoch, on_step)
        rows.append(row)
        if compute.rank():
            continue
        if evaluate_fn and _due(epoch + 1, config.evaluate_every, config.num_epochs):
            row |= evaluate_fn(model)
        if run:
            save_state(run, model, optimizer, rows, identity, beside)
            run.append_row(row)
    if run and not compute.rank():
        run.checkpoints.retire()
    if evaluate_fn and first == config.num_epochs and not compute.rank():
        evaluate_fn(model)
    return rows


def _first_epoch(config: TrainConfig, rows: list[Json], run: RunFolder | None) -> int:
    """Finished epochs; the run folder is brought to where they ended."""
    require(
        len(rows) <= config.num_epochs,
        f"--resume: {len(rows)} epochs are finished: give at least as many with --num-epochs",
    )
    if run and config.resume and not compute.rank():
        run.write_rows(rows)
        if len(rows) < config.num_epochs:
            run.reopen()
    return len(rows)


def _epoch_row(
    model: nn.Module,
    body: BodyModel,
    dataset: PeopleDataset,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    epoch: int,
    on_step: OnStep | None,
) -> Json:
    """Trains one epoch and says what it did."""
    began = time.perf_counter()
    stage, factor = _stage(config, epoch)
    people = dataset.of_epoch(epoch) if isinstance(dataset, RenewedPeople) else dataset
    stats = train_epoch(
        model,
        body,
        people,
        optimizer,
        stage,
        seed=derive_seed(config.seed, "client", epoch, 0),
        epoch=float(epoch),
        factor=factor,
        on_step=on_step,
    )
    seconds = time.perf_counter() - began
    return {
        "round": epoch + 1,
        "num_samples": stats.num_samples,
        "losses": stats.losses,
        "seconds": seconds,
        "images_per_second": stats.num_samples / seconds,
    }


def _stage(config: TrainConfig, epoch: int) -> tuple[OptimOptions, Schedule]:
    """Options and learning-rate factor of an epoch: the keypoint head first, then everything."""
    options, first = config.optim_options, config.keypoint_epochs
    if epoch < first:
        length = min(first, config.num_epochs)
        factor = schedule(config.schedule, length, config.warmup_epochs)
        return replace(options, loss="keypoints"), factor
    length = config.num_epochs - first
    return options, schedule(config.schedule, length, config.warmup_epochs, first)


def _due(epoch: int, every: int, last: int) -> bool:
    return epoch == last or (every > 0 and epoch % every == 0)
