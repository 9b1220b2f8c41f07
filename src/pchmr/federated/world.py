"""What clients stand on: one model, all people, who owns which of them, and how a client fits.

A simulation holds all of it; a device its own rows. Knows no framework.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from pchmr.config import FederateConfig
from pchmr.data.sample import PeopleDataset


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
