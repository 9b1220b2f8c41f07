"""The same apps on Flower's simulation runtime: one ray actor per group of threads.

Needs the extra `ray`. The world is put into ray's object store once; each actor keeps one resident
worker, like the in-process engine, with as many threads as this process, so that both engines
compute the same bits.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pchmr.config import SettingError
from pchmr.federated.client import Worker
from pchmr.federated.flower.api import ClientApp, ServerApp, wire_array
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server import Server
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.policy import Guard
from pchmr.federated.world import World

_HERE: list[Residence] = []


@dataclass(frozen=True)
class RemoteResidence:
    """Finds an actor's worker, and on the first task makes it from the world in the store."""

    world: Any
    state_folder: Path
    num_threads: int

    @property
    def guard(self) -> Guard:
        """That of the actor's residence."""
        return self._residence().guard

    def __call__(self, settings: str) -> Worker:
        """The worker for a config that came as JSON; one an actor, kept between tasks."""
        return self._residence()(settings)

    def _residence(self) -> Residence:
        if not _HERE:
            torch.set_num_threads(self.num_threads)
            _HERE.append(Residence(import_module("ray").get(self.world), self.state_folder))
        return _HERE[0]


def run_on_ray(server: Server, world: World, state_folder: Path) -> None:
    """Runs the server's rounds with clients in ray actors.

    Raises:
        SettingError: ray is not installed.
    """
    if find_spec("ray") is None:
        raise SettingError("--engine ray needs the extra: pip install 'pchmr[ray]'")
    threads = torch.get_num_threads()
    server.min_nodes = server.config.num_clients
    num_actors = server.config.num_workers
    if num_actors == 1:
        num_actors = max(1, (os.cpu_count() or 1) // threads)
    with started(num_actors) as put:
        residence = RemoteResidence(put(world), state_folder.resolve(), threads)
        simulate(
            make_server_app(server),
            make_client_app(residence, wire_array),
            server.config.num_clients,
        )


@contextmanager
def started(num_actors: int) -> Iterator[Callable[[Any], Any]]:
    """Ray on this machine, with this process's threads an actor; gives what puts into its store."""
    ray = import_module("ray")
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    ray.init(
        num_cpus=num_actors,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": environment},
    )
    try:
        yield ray.put
    finally:
        ray.shutdown()


def simulate(server_app: ServerApp, client_app: ClientApp, num_clients: int) -> None:
    """Runs two apps on Flower's simulation runtime, which keeps quiet."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import_module("flwr.simulation").run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=num_clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    finally:
        logger.setLevel(level)
