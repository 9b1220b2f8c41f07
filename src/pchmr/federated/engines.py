"""Runtimes that carry messages between the same two apps.

`inprocess` needs no daemon and copies nothing. `ray` is Flower's simulation runtime with worker
processes (the `ray` extra). With one seed both end with the same weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pchmr.config import FederateConfig, from_json
from pchmr.federated.client import Worker, World
from pchmr.federated.client_app import make_client_app
from pchmr.federated.flower import Array, SharedArray, new_context
from pchmr.federated.grid import InProcessGrid
from pchmr.federated.server import Server
from pchmr.federated.server_app import make_server_app

RUN_ID = 1


@dataclass(frozen=True)
class Residence:
    """Keeps one worker alive for as long as its config stays the same."""

    world: World
    state_folder: Path

    def __call__(self, settings: str) -> Worker:
        """The worker for a config that came as JSON."""
        known = self.__dict__.get("_known")
        if known is None or known[0] != settings:
            config = from_json(FederateConfig, settings)
            known = (settings, Worker(self.world, config, self.state_folder))
            self.__dict__["_known"] = known
        return known[1]


def run_in_process(server: Server, world: World, state_folder: Path) -> None:
    """Runs the server's rounds with every client in this process, one after the other."""
    client_app = make_client_app(Residence(world, state_folder), SharedArray)
    grid = InProcessGrid(client_app, server.config.num_clients, RUN_ID)
    make_server_app(server)(grid, new_context(RUN_ID, 0))


@dataclass(frozen=True)
class Engine:
    """A runtime: how arrays travel, and how the rounds are run."""

    carry: Callable[[np.ndarray], Array]
    run: Callable[[Server, World, Path], None]


ENGINES: dict[str, Engine] = {
    "inprocess": Engine(SharedArray, run_in_process),
}
