"""Runtimes that carry messages between the same two apps.

`inprocess` needs no daemon and copies nothing; with several workers, clients train side by side in
processes of their own. `ray` is Flower's simulation runtime with worker
processes (the `ray` extra). With one seed both end with the same weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pchmr.federated.flower.api import Array, SharedArray, new_context, wire_array
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.ray_engine import run_on_ray
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server import Server
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.flower.tasks import task_sizes
from pchmr.federated.flower.workers import WorkerGrid
from pchmr.federated.world import World

RUN_ID = 1


def run_in_process(server: Server, world: World, state_folder: Path) -> None:
    """Runs the server's rounds with clients in this process, or in worker processes beside it."""
    app, context = make_server_app(server), new_context(RUN_ID, 0)
    num_workers, num_nodes = server.config.num_workers, server.config.num_clients
    if num_workers == 1:
        client_app = make_client_app(Residence(world, state_folder), SharedArray)
        app(InProcessGrid(client_app, num_nodes, RUN_ID), context)
        return
    grid = WorkerGrid(
        world,
        state_folder,
        size=sum(task_sizes(server.schema).values()),
        num_workers=num_workers,
        num_threads=max(1, torch.get_num_threads() // num_workers),
        num_nodes=num_nodes,
        run_id=RUN_ID,
    )
    try:
        app(grid, context)
    finally:
        grid.close()


@dataclass(frozen=True)
class Engine:
    """A runtime: how arrays travel, how the rounds are run, and who the clients are.

    Attributes:
        carry: Makes a Flower array of a NumPy array.
        run: Runs the server's rounds; takes the world and the folder of clients' state.
        public_keys: Of clients that are devices of their own, by logical id; None makes keys.
        nodes: Node of each logical client; without them, those of the grid in turn.
        absent: Clients that have left and are never drawn.
        name: Tells runs apart that share a seed.
    """

    carry: Callable[[np.ndarray], Array]
    run: Callable[[Server, World, Path], None]
    public_keys: Sequence[bytes] | None = None
    nodes: Sequence[int] = ()
    absent: frozenset[int] = frozenset()
    name: str = ""


ENGINES: dict[str, Engine] = {
    "inprocess": Engine(SharedArray, run_in_process),
    "ray": Engine(wire_array, run_on_ray),
}
