"""The controls between centralized and federated training: one change a rung, on the same images.

`sequential`: one optimizer sees the clients' batches one after the other. `minibatch`: it sees the
batches of all clients at once, so that steps are as few as a client's. `redealt`: every client
steps alone from the common weights and the averaged state, and the images are dealt anew each
round. With people that stay where they are, it is federated training. Orders within a client and
the way crops are changed are the same on the first two rungs and in federated training. No messages
and no gate here: what leaves a worker is put together at once.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pchmr.config import FederateConfig
from pchmr.data.augment import training_batch
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.federated import ALGORITHMS, World
from pchmr.federated.client import Worker
from pchmr.federated.fold import Fold
from pchmr.federated.moments import MomentSpec
from pchmr.federated.rounds import client_seed
from pchmr.federated.task import Task
from pchmr.federated.vector import FlatView
from pchmr.seeds import derive_seed
from pchmr.training import epoch_batches, new_optimizer, schedule, set_rate, train_step

AfterRound = Callable[[int], None]


def climb(config: FederateConfig, rung: str, world: World, after_round: AfterRound) -> None:
    """Trains `world.model` on a rung.

    Args:
        config: Of the federated run that the rung is held against: all of its clients take part.
        rung: `sequential`, `minibatch` or `redealt`.
        world: Model, people, and who holds which of them.
        after_round: Called with the number of rounds behind.
    """
    if rung == "redealt":
        _redealt(config, world, after_round)
        return
    optimizer = new_optimizer(world.model, config.optim_options)
    passes = config.num_rounds * config.local_epochs
    factor = schedule(config.server_options.round_schedule, passes)
    for epoch in range(passes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(client_seed(config.seed, epoch, 0), "dropout", 0))
            for share, batch in _steps(config, world, rung, epoch):
                _step(config, world, optimizer, batch, factor(epoch + share), epoch + share)
        if (epoch + 1) % config.local_epochs == 0:
            after_round((epoch + 1) // config.local_epochs)


@dataclass(frozen=True)
class _Client:
    """A client's batches of an epoch, each changed as in its own local epoch."""

    people: PeopleDataset
    batches: list[np.ndarray]
    generator: torch.Generator
    config: FederateConfig

    def batch(self, number: int) -> Sample:
        """A batch; they are asked for in order."""
        options, rows = self.config.optim_options, self.batches[number]
        return training_batch(self.people, rows, self.generator, options)


def _clients(config: FederateConfig, world: World, epoch: int) -> list[_Client]:
    made = []
    for client_id, rows in enumerate(world.partitions):
        seed = client_seed(config.seed, epoch, client_id)
        batches, generator = epoch_batches(len(rows), config.optim_options.batch_size, seed)
        own = [rows[batch] for batch in batches]
        made.append(_Client(world.train_set, own, generator, config))
    return made


def _steps(
    config: FederateConfig, world: World, rung: str, epoch: int
) -> Iterator[tuple[float, Sample]]:
    """The batches of an epoch, each with the share of the epoch behind it."""
    clients = _clients(config, world, epoch)
    longest = max(len(client.batches) for client in clients)
    for number in range(longest):
        found = [client.batch(number) for client in clients if number < len(client.batches)]
        share = number / longest
        if rung == "minibatch":
            yield share, Sample.joined(found)
        else:
            yield from ((share, sample) for sample in found)


def _step(
    config: FederateConfig,
    world: World,
    optimizer: torch.optim.Optimizer,
    batch: Sample,
    factor: float,
    epoch: float,
) -> None:
    options, model = config.optim_options, world.model
    model.train()
    set_rate(optimizer, options.learning_rate * factor)
    train_step(model, world.body, batch, optimizer, options, epoch=epoch)


def _redealt(config: FederateConfig, world: World, after_round: AfterRound) -> None:
    """Local steps on shares that are dealt anew, states averaged."""
    averaged = replace(config.server_options, client_state="average")
    config = replace(config, server_options=averaged)
    with tempfile.TemporaryDirectory() as folder:
        rounds = Rounds(replace(world), config, Path(folder))
        for number in range(1, config.num_rounds + 1):
            rounds.world.partitions = _dealt(config, len(world.train_set), number)
            rounds.run(number)
            rounds.show(world.model)
            after_round(number)


def _dealt(config: FederateConfig, num_samples: int, number: int) -> list[np.ndarray]:
    """Equal shares of everybody, drawn for a round."""
    rng = np.random.default_rng(derive_seed(config.seed, "redealt", number))
    return [np.sort(p) for p in np.array_split(rng.permutation(num_samples), config.num_clients)]


class Rounds:
    """Rounds of all clients without messages: a worker, a fold and the weights.

    Args:
        world: Its partitions may change between rounds.
        config: Of the run.
        folder: Where clients keep what they keep.
    """

    def __init__(self, world: World, config: FederateConfig, folder: Path) -> None:
        self.world, self._config = world, config
        self._worker = Worker(world, config, folder)
        spec, self._algorithm = self._worker.spec, ALGORITHMS[config.algorithm]
        moments = MomentSpec.of(spec, config)
        self._moments = moments.zeros()
        self._view = FlatView(world.model, spec.parameters)
        self._statistics = FlatView(world.model, spec.buffers)
        self.parameters, self.buffers = self._view.read(), self._statistics.read()
        self._state = self._algorithm.init(spec.num_parameters)
        sizes = spec.num_parameters, spec.num_buffers
        self._fold = Fold(self._algorithm, *sizes, moments=moments.sizes)

    def run(self, number: int) -> None:
        """One round of every client."""
        config = self._config
        self._fold.clear()
        for client_id in range(config.num_clients):
            task = Task(number, client_id, self.parameters, self.buffers, moments=self._moments)
            update = self._worker.run(task)
            self._fold.add(update.arrays, update.num_samples, update.num_steps)
        step = self._algorithm.step(number, config.server_options)
        self._fold.apply(self.parameters, self.buffers, self._state, step, config.num_clients)
        self._fold.average_moments(self._moments)

    def show(self, model: nn.Module) -> None:
        """Puts the common weights into the model."""
        assert model is self.world.model
        self._view.write(self.parameters)
        self._statistics.write(self.buffers)
