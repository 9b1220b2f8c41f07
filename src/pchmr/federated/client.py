"""One worker: a resident model that plays any logical client, one after the other.

Knows no framework: a task comes in as arrays and numbers, an update goes out. The local epoch is
`training.train_epoch`, with a fresh optimizer each round. What a worker reads of the data is the
client's own rows and nothing else.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from pchmr.config import FederateConfig, to_json
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.federated.accounting import clipped
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client_state import ClientStates
from pchmr.federated.corrections import StepCount, Variate, before_step
from pchmr.federated.digests import model_digest
from pchmr.federated.moments import COUNT, MomentSpec, MomentView, Vectors, is_averaged
from pchmr.federated.policy import Errand, Guard
from pchmr.federated.rounds import client_seed
from pchmr.federated.task import Task
from pchmr.federated.update import Update, UpdateSchema
from pchmr.federated.vector import Counters, FlatSpec, FlatView
from pchmr.models.trainable import frozen_norms


@runtime_checkable
class EpochLosses(Protocol):
    """What a local epoch tells: the mean of every loss term."""

    @property
    def losses(self) -> dict[str, float]:
        """Mean of each weighted term."""
        ...


@runtime_checkable
class LocalEpoch(Protocol):
    """One pass over a client's rows; changes the model and the optimizer."""

    def __call__(
        self,
        model: nn.Module,
        dataset: PeopleDataset,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        epoch: float,
    ) -> EpochLosses:
        """Trains in an order drawn from `seed`; `epoch` counts epochs behind."""
        ...


@dataclass(frozen=True)
class Training:
    """How a client fits weights; a test may put a toy in its place.

    Attributes:
        new_optimizer: A fresh optimizer over the trainable weights of a model.
        train_epoch: One pass in an order drawn from its seed.
    """

    new_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    train_epoch: LocalEpoch


@dataclass
class World:
    """What a simulation holds: one model, all people, and who owns which of them.

    Attributes:
        model: Start weights; after a run, the federated weights.
        body: Body whose mesh the truth is made of.
        train_set: People of all clients.
        partitions: Rows of each client, by logical id.
        training: How a client fits weights; without it, the package's own.
    """

    model: nn.Module
    body: Any
    train_set: PeopleDataset
    partitions: list[np.ndarray]
    training: Training | None = None


def people_training(world: World, config: FederateConfig) -> Training:
    """The package's own local epoch, with the learning rate of the round."""
    from pchmr.training import new_optimizer, schedule, train_epoch

    options = config.optim_options
    passes = config.num_rounds * config.local_epochs
    factor = schedule(config.server_options.round_schedule, passes)

    def run(
        model: nn.Module,
        dataset: PeopleDataset,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        epoch: float,
    ) -> EpochLosses:
        return train_epoch(
            model, world.body, dataset, optimizer, options, seed=seed, epoch=epoch, factor=factor
        )

    return Training(lambda model: new_optimizer(model, options), run)


def schema_of(spec: FlatSpec, config: FederateConfig, run: int) -> UpdateSchema:
    """The schema of replies for a layout and an algorithm."""
    sizes = {"delta": spec.num_parameters}
    if spec.num_buffers:
        sizes["buffers"] = spec.num_buffers
    if ALGORITHMS[config.algorithm].has_control:
        sizes["control"] = spec.num_parameters
    if is_averaged(config):
        sizes |= MomentSpec.of(spec, config).sizes
    return UpdateSchema(sizes=sizes, fingerprint=spec.fingerprint, run=run)


@dataclass
class Worker:
    """A resident model and its buffers.

    The arrays of an update are the worker's own memory: they hold until its next task.
    """

    world: World
    config: FederateConfig
    state_folder: Path
    spec: FlatSpec = field(init=False)

    def __post_init__(self) -> None:
        policy = self.config.server_options.batch_norm
        self.spec = FlatSpec.of(self.world.model, policy)
        self._training = self.world.training or people_training(self.world, self.config)
        self._weights = FlatView(self.world.model, self.spec.parameters)
        self._statistics = FlatView(self.world.model, self.spec.buffers)
        self._kept = FlatView(self.world.model, self.spec.kept)
        self._kept_at_start = self._kept.read()
        self._counters = Counters(self.world.model)
        self._states = ClientStates(self.state_folder)
        self._moments = self._begun = None
        if self.config.server_options.client_state != "reset":
            moments = MomentSpec.of(self.spec, self.config)
            self._moments, self._begun = MomentView(self.world.model, moments), moments.zeros()
        self._delta = np.empty(self.spec.num_parameters, dtype=np.float32)
        self._parameters = list(self.world.model.parameters())
        self._held: tuple[int, int] | None = None

    def schema(self, run: int) -> UpdateSchema:
        """What may leave this worker in a run."""
        return schema_of(self.spec, self.config, run)

    def answer(self, task: Task, guard: Guard, *, run: int, node_id: int) -> Update:
        """Trains if the device's policy allows it, and tells no more than it allows.

        Args:
            task: What the server asks.
            guard: Of the device.
            run: Number of the run.
            node_id: Of the node that was asked.

        Raises:
            Rejected: The policy says no.
        """
        errand = self.errand(run, task.round, task.client_id, node_id)
        if guard.policy.client_ids is not None:  # a device, whose server may have been killed
            errand = replace(errand, task=self._digest(task))
        is_private = bool(getattr(self.world.train_set, "is_private", False))
        guard.begin(errand, self.config, self._samples_of, is_private)
        guard.check_weights(*task.vectors)
        update, clip = self.run(task), self.config.privacy_options.dp_clip
        return guard.withhold(update) if clip is None else clipped(update, clip)

    def _digest(self, task: Task) -> str:
        """Of all that an answer follows from."""
        settings = to_json(self.config).encode()
        return hashlib.sha256(settings + model_digest(task.vectors)).hexdigest()

    def errand(self, run: int, round_number: int, client_id: int, node_id: int) -> Errand:
        """What is asked of the device, in the words of its policy."""
        return Errand(run, round_number, client_id, node_id, self.spec.fingerprint)

    def is_here(self, client_id: int) -> bool:
        """Whether a logical client is this device's."""
        return self._samples_of(client_id) is not None

    def _samples_of(self, client_id: int) -> int | None:
        known = 0 <= client_id < len(self.world.partitions)
        return len(self.world.partitions[client_id]) if known else None

    def run(self, task: Task) -> Update:
        """Trains on the client's rows from the global weights; returns what it learned."""
        rows = self.world.partitions[task.client_id]
        kept = self._states.load(task.client_id, task.round)
        self._load(task)
        self._statistics.write(task.buffers)
        self._kept.write(kept.get("kept", self._kept_at_start))
        arrays, keep = {}, {}
        people, before = Subset(self.world.train_set, rows), self._state_before(task, kept)
        with self._correction(task, kept) as (change, variate):
            steps, loss, after = self._train(task, people, change, before)
        if is_averaged(self.config):
            arrays |= {name: vector for name, vector in after.items() if name != COUNT}
        else:
            keep |= after
        arrays["delta"] = self._weights.take(task.parameters, self._delta)
        self._held = _weights_of(task)
        if self.spec.num_buffers:
            arrays["buffers"] = self._statistics.read()
        if variate is not None:
            keep["control"], arrays["control"] = variate.finish()
        if self.spec.num_kept:
            keep["kept"] = self._kept.read()
        if keep:
            self._states.save(task.client_id, task.round, keep)
        self._counters.restore()
        return Update(arrays, num_samples=len(rows), num_steps=steps, loss_sum=loss * len(rows))

    def _state_before(self, task: Task, kept: Mapping[str, np.ndarray]) -> Vectors:
        """Moments that the client's optimizer goes on from; empty for a fresh one."""
        if self._begun is None:
            return {}
        held = task.moments if is_averaged(self.config) else kept
        return {name: held.get(name, zero) for name, zero in self._begun.items()}

    def _load(self, task: Task) -> None:
        """Puts the global weights into the model, unless the round's last task left them there."""
        if self._held != _weights_of(task):
            self._weights.write(task.parameters)
        self._held = None

    @contextmanager
    def _correction(
        self, task: Task, kept: dict[str, np.ndarray]
    ) -> Iterator[tuple[Callable[[], None] | None, Variate | None]]:
        """What the algorithm adds to gradients, and the control variate if it has one."""
        algorithm = ALGORITHMS[self.config.algorithm]
        if algorithm.has_control:
            assert task.control is not None
            own = kept.get("control", np.zeros_like(task.control))
            variate = Variate(self.world.model, self.spec.parameters, task.control, own)
            yield variate, variate
        else:
            yield algorithm.client_term(self.world.model, self.config.server_options), None

    def _train(
        self,
        task: Task,
        dataset: PeopleDataset,
        change: Callable[[], None] | None,
        before: Vectors,
    ) -> tuple[int, float, Vectors]:
        """Runs the local epochs; returns the steps taken, the mean loss of the last, and the
        moments of the optimizer.
        """
        model, epochs = self.world.model, self.config.local_epochs
        optimizer = self._training.new_optimizer(model)
        if self._moments is not None:
            self._moments.load(optimizer, before)
        count, loss = StepCount(optimizer), float("nan")
        with ExitStack() as stack:
            every = self.config.server_options.batch_norm == "freeze"
            stack.enter_context(frozen_norms(model, every))
            stack.enter_context(before_step(optimizer, change))
            for index in range(epochs):
                epoch = (task.round - 1) * epochs + index
                seed = client_seed(self.config.seed, epoch, task.client_id)
                stats = self._training.train_epoch(
                    model, dataset, optimizer, seed=seed, epoch=float(epoch)
                )
                loss = sum(stats.losses.values())
        after = {} if self._moments is None else self._moments.read(optimizer, before, count.steps)
        for parameter in self._parameters:
            parameter.grad = None
        return count.steps, loss, after


def _weights_of(task: Task) -> tuple[int, int]:
    """What tells the global weights of a round from others: they stay in place while it lasts."""
    return task.round, task.parameters.ctypes.data
