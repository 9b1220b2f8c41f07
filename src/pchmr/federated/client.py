"""One worker: a resident model that plays any logical client, one after the other.

Knows no framework: a task comes in as arrays and numbers, an update goes out. The local epoch is
`training.train_epoch`, with an optimizer that is fresh each round unless its state is averaged or
kept (`moments`). What a worker reads of the data is the
client's own rows and nothing else.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from pchmr.config import FederateConfig, SettingError, to_json
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.federated.accounting import clipped
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client_state import ClientStates, fitting
from pchmr.federated.corrections import StepCount, Variate, before_step, proximal
from pchmr.federated.digests import model_digest
from pchmr.federated.moments import COUNT, MomentSpec, MomentView, Vectors, is_averaged
from pchmr.federated.personal import KEPT, OWN, Beside, in_turn, nothing
from pchmr.federated.policy import Errand, Guard
from pchmr.federated.rounds import client_seed
from pchmr.federated.task import Task
from pchmr.federated.update import Update, UpdateSchema
from pchmr.federated.vector import Counters, FlatSpec, FlatView
from pchmr.federated.world import World, people_training
from pchmr.models.trainable import frozen_norms
from pchmr.seeds import derive_seed


def layout_of(model: nn.Module, config: FederateConfig) -> FlatSpec:
    """What of a model travels and what clients keep, as a run's settings have it."""
    algorithm = ALGORITHMS[config.algorithm]
    stays = algorithm.stays(model)
    if not stays and algorithm.stays is not nothing:
        raise SettingError(
            f"--algorithm {config.algorithm}: this model has no part that clients could keep; "
            "take fedavg, ditto or apfl"
        )
    return FlatSpec.of(model, config.server_options.batch_norm, stays)


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

    Attributes:
        world: What is trained, and on whom.
        config: Of the run.
        state_folder: Where clients keep vectors between rounds, in plain files.
        states_of: Where a client keeps them in a run instead.
        spec: Layout of the model.
    """

    world: World
    config: FederateConfig
    state_folder: Path
    states_of: Callable[[int, int], ClientStates] | None = None
    spec: FlatSpec = field(init=False)

    def __post_init__(self) -> None:
        self._algorithm = ALGORITHMS[self.config.algorithm]
        self._stays = self._algorithm.stays(self.world.model)
        self.spec = layout_of(self.world.model, self.config)
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
        own = {"control": self.spec.num_parameters, OWN: self.spec.num_parameters}
        begun = {name: len(zero) for name, zero in (self._begun or {}).items()}
        self._kept_sizes = own | {KEPT: self.spec.num_kept} | begun
        self._delta = np.empty(self.spec.num_parameters, dtype=np.float32)
        self._parameters = list(self.world.model.parameters())
        self._held: tuple[int, int] | None = None
        self._checked: tuple[int, int] | None = None

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
        guard.begin(errand, self.config, self.samples_of, is_private)
        if guard.policy.client_ids is not None or self._checked != _weights_of(task):
            guard.check_weights(*task.vectors)
            # A simulation hands the same vectors to all clients of a round.
            same = task.control is None and not task.moments
            self._checked = _weights_of(task) if same else None
        if self.states_of is not None:
            self._states = self.states_of(run, task.client_id)
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
        return self.samples_of(client_id) is not None

    def samples_of(self, client_id: int) -> int | None:
        """How many samples a logical client holds here; None for one that is not here."""
        known = 0 <= client_id < len(self.world.partitions)
        return len(self.world.partitions[client_id]) if known else None

    def run(self, task: Task) -> Update:
        """Trains on the client's rows from the global weights; returns what it learned."""
        rows = self.world.partitions[task.client_id]
        kept = fitting(self._states.load(task.client_id, task.round), self._kept_sizes)
        self._load(task)
        self._statistics.write(task.buffers)
        self._kept.write(kept.get(KEPT, self._kept_at_start))
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
            keep[KEPT] = self._kept.read()
        if self._algorithm.beside is not None:
            keep[OWN] = self._train_own(self._algorithm.beside, task, people, kept)
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
        algorithm = self._algorithm
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
                with self._turn(is_last=index == epochs - 1):
                    stats = self._training.train_epoch(
                        model, dataset, optimizer, seed=seed, epoch=float(epoch)
                    )
                loss = sum(stats.losses.values())
        after = {} if self._moments is None else self._moments.read(optimizer, before, count.steps)
        for parameter in self._parameters:
            parameter.grad = None
        return count.steps, loss, after

    def _turn(self, *, is_last: bool) -> AbstractContextManager[None]:
        """What trains in a local epoch."""
        if not self._algorithm.is_in_turn:
            return nullcontext()
        return in_turn(self.world.model, self._stays, is_last)

    def _train_own(
        self, beside: Beside, task: Task, people: PeopleDataset, kept: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Trains the client's own network; leaves the common one in the model."""
        config, options, model = self.config, self.config.server_options, self.world.model
        rate = config.optim_options.learning_rate * beside.rate(options)
        slower = replace(config, optim_options=replace(config.optim_options, learning_rate=rate))
        training = self.world.training or people_training(self.world, slower)
        local = task.parameters + self._delta
        pull = proximal(model, options.mu) if beside.is_held else None
        self._weights.write(beside.start(kept.get(OWN, task.parameters), local, options))
        optimizer = training.new_optimizer(model)
        with before_step(optimizer, pull):
            for index in range(config.local_epochs):
                epoch = (task.round - 1) * config.local_epochs + index
                seed = derive_seed(client_seed(config.seed, epoch, task.client_id), OWN)
                training.train_epoch(model, people, optimizer, seed=seed, epoch=float(epoch))
        own = beside.finish(self._weights.read(), local, options)
        self._weights.write(task.parameters)
        for parameter in self._parameters:
            parameter.grad = None
        return own


def _weights_of(task: Task) -> tuple[int, int]:
    """What tells the global weights of a round from others: they stay in place while it lasts."""
    return task.round, task.parameters.ctypes.data
