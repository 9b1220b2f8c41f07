"""A client's own network, made: rounds, what it kept of them, and what it trains alone after."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from pchmr.config import FederateConfig, OptimOptions
from pchmr.data.partition import natural
from pchmr.data.sample import PeopleDataset
from pchmr.experiment.scene import Scene
from pchmr.federated import ALGORITHMS, World, run_federated
from pchmr.federated.client import layout_of
from pchmr.federated.client_state import ClientStates
from pchmr.federated.forgetting import CLIENTS
from pchmr.federated.personal import head, show_own
from pchmr.models.low_rank import only_low_rank_trains
from pchmr.models.trainable import only_norms_train, only_trains
from pchmr.recipes.personal import Method, Part, PersonalScale
from pchmr.runs import RunFolder
from pchmr.seeds import derive_seed
from pchmr.training import new_optimizer, schedule, train_epoch

LEAST_HELD = 2
RANK = 8


@dataclass(frozen=True)
class People:
    """Who holds which images, and what for.

    Attributes:
        to_learn: Rows that each client learns from.
        to_score: Rows that it is scored on.
        seated: Clients that take part in rounds.
        newcomers: Clients that do not and are scored.
        choosing: Clients that do not and choose rates.
    """

    to_learn: list[np.ndarray]
    to_score: list[np.ndarray]
    seated: list[int]
    newcomers: list[int]
    choosing: list[int]

    @property
    def sizes(self) -> tuple[int, int]:
        """Images that the smallest and the largest client learn from."""
        counts = [len(rows) for rows in self.to_learn]
        return min(counts), max(counts)


def deal_people(size: PersonalScale, people: PeopleDataset, seed: int) -> People:
    """Deals people by scene, and each client's images to what it learns from and is scored on."""
    rng = np.random.default_rng(derive_seed(seed, "pfl"))
    parts = natural(people.columns["scene"], size.num_clients, rng)
    mixed = [rng.permutation(rows) for rows in parts]
    held = [max(LEAST_HELD, round(size.held_share * len(rows))) for rows in mixed]
    order = rng.permutation(size.num_clients).tolist()
    seated, rest = order[: size.num_seated], order[size.num_seated :]
    return People(
        to_learn=[np.sort(rows[count:]) for rows, count in zip(mixed, held, strict=True)],
        to_score=[np.sort(rows[:count]) for rows, count in zip(mixed, held, strict=True)],
        seated=sorted(seated),
        newcomers=sorted(rest[: size.num_newcomers]),
        choosing=sorted(rest[size.num_newcomers :]),
    )


@dataclass(frozen=True)
class Trained:
    """What rounds leave: the common network, and what each client kept.

    Attributes:
        common: Its weights.
        kept: Vectors of clients that took part, by client.
        config: Of the rounds.
    """

    common: Mapping[str, Tensor]
    kept: Mapping[int, Mapping[str, np.ndarray]]
    config: FederateConfig

    def show(self, model: nn.Module, client: int) -> None:
        """Makes a client's network of the model; of one that took no part, the common one."""
        model.load_state_dict(dict(self.common))
        beside = ALGORITHMS[self.config.algorithm].beside
        spec, options = layout_of(model, self.config), self.config.server_options
        show_own(model, spec, self.kept.get(client, {}), beside, options)


def train_rounds(
    config: FederateConfig, method: Method, scene: Scene, people: People, folder: Path
) -> Trained:
    """Runs the rounds of a method, or goes on with them; those that are done are not run again."""
    start = {name: tensor.clone() for name, tensor in scene.model.state_dict().items()}
    if method.algorithm is None:
        return Trained(start, {}, config)
    rows = [people.to_learn[client] for client in people.seated]
    world = World(scene.model, scene.body, scene.train_set, rows)
    run_federated(replace(config, resume=True), world, RunFolder(folder))
    common = {name: tensor.clone() for name, tensor in scene.model.state_dict().items()}
    states = ClientStates(folder / CLIENTS)
    kept = {
        client: states.load(place, config.num_rounds + 1)
        for place, client in enumerate(people.seated)
    }
    return Trained(common, kept, config)


Only = Callable[[nn.Module, int], AbstractContextManager[None]]
PARTS: dict[Part, Only] = {
    "all": lambda model, seed: nullcontext(),
    "head": lambda model, seed: only_trains(model, head(model).__contains__),
    "scales": lambda model, seed: only_norms_train(model),
    "low-rank": lambda model, seed: only_low_rank_trains(model, RANK, seed),
}


def tailor(
    scene: Scene,
    people: PeopleDataset,
    part: Part,
    options: OptimOptions,
    num_epochs: int,
    seed: int,
) -> None:
    """Trains a part of the scene's network on a client's images, on a cosine."""
    factor = schedule("cosine", num_epochs)
    with PARTS[part](scene.model, seed):
        optimizer = new_optimizer(scene.model, options)
        for epoch in range(num_epochs):
            train_epoch(
                scene.model,
                scene.body,
                people,
                optimizer,
                options,
                seed=derive_seed(seed, epoch),
                epoch=float(epoch),
                factor=factor,
            )
