"""The clients of a run, played again: a person, weights, a round, and what would be sent.

It is the run's own client with its own recipe (optimizer, epochs, augmentation, what trains, clip
of differential privacy), so what an attack sees is what a server would have seen.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from pchmr.body import BodyModel
from pchmr.config import FederateConfig, PartitionOptions
from pchmr.config.privacy import PrivacyOptions
from pchmr.data.augment import training_batch
from pchmr.data.sample import Sample
from pchmr.federated.accounting import clipped
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client import Worker
from pchmr.federated.rounds import client_seed
from pchmr.federated.task import Task
from pchmr.federated.trainable import part_that_trains
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.federated.world import World
from pchmr.privacy.audit.people import Cast

Values = Float[np.ndarray, " size"]


@dataclass
class Replay:
    """Clients of one person each, and clients of one picture each.

    Attributes:
        config: Of the run.
        cast: The people; client k holds the rows `cast.clients[k]`.
        model: The network; every update starts from the weights that it is asked for.
        body: Of the people.
        worker: The run's own client.
        start: Weights that the run started from, as they travel.
    """

    config: FederateConfig
    cast: Cast
    model: nn.Module
    body: BodyModel
    worker: Worker
    start: Values

    @property
    def spec(self) -> FlatSpec:
        """Layout of an update."""
        return self.worker.spec

    def update(self, client: int, weights: Values | None = None, round_number: int = 1) -> Values:
        """What a client sends; memory of the worker, valid until the next call."""
        weights = self.start if weights is None else weights
        control = None
        if ALGORITHMS[self.config.algorithm].has_control:
            control = np.zeros_like(weights)
        task = Task(round_number, int(client), weights, self._statistics, control)
        update, clip = self.worker.run(task), self.config.privacy_options.dp_clip
        return (update if clip is None else clipped(update, clip)).arrays["delta"]

    def seen(self, client: int) -> Sample:
        """What a client with one picture trains on in round 1: its picture, augmented or not."""
        rows, options = self.cast.clients[client], self.config.optim_options
        assert len(rows) == 1
        generator = torch.Generator().manual_seed(client_seed(self.config.seed, 0, client))
        torch.randperm(1, generator=generator)
        return training_batch(self.cast.people, rows, generator, options)

    def load(self, weights: Values) -> None:
        """Puts weights into the model, for gradients and tokens."""
        FlatView(self.model, self.spec.parameters).write(weights)
        self.worker._held = None

    def __post_init__(self) -> None:
        self._statistics = FlatView(self.model, self.spec.buffers).read()


@contextmanager
def replayed(
    config: FederateConfig, cast: Cast, model: nn.Module, body: BodyModel
) -> Iterator[Replay]:
    """A replay of a run with the people of an audit; the model is left with its start weights."""
    clients = cast.clients
    count = len(clients)
    data = replace(config.data_options, data=None, num_samples=len(cast.people))
    playing = replace(
        config,
        num_clients=count,
        clients_per_round=min(config.clients_per_round, count),
        data_options=data,
        privacy_options=PrivacyOptions(),
        partition="iid",
        partition_options=PartitionOptions(),
        num_workers=1,
    )
    with tempfile.TemporaryDirectory() as folder, part_that_trains(config, model):
        worker = Worker(World(model, body, cast.people, clients), playing, Path(folder))
        start = FlatView(model, worker.spec.parameters).read()
        made = Replay(config, cast, model, body, worker, start)
        try:
            yield made
        finally:
            made.load(start)
