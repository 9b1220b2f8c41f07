"""The same apps on Flower's simulation runtime: one ray actor per group of threads.

Needs the extra `ray`. The world is put into ray's object store once; each actor keeps one resident
worker, like the in-process engine, with as many threads as this process, so that both engines
compute the same bits.
"""

import logging
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pchmr.config import SettingError
from pchmr.federated.client import Worker
from pchmr.federated.flower.api import wire_array
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
    ray, simulation = import_module("ray"), import_module("flwr.simulation")
    logger = logging.getLogger("flwr")
    level, threads = logger.level, torch.get_num_threads()
    logger.setLevel(logging.ERROR)
    server.min_nodes = server.config.num_clients
    num_actors = server.config.num_workers
    if num_actors == 1:
        num_actors = max(1, (os.cpu_count() or 1) // threads)
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(threads)}
    ray.init(
        num_cpus=num_actors,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": environment},
    )
    try:
        residence = RemoteResidence(ray.put(world), state_folder.resolve(), threads)
        simulation.run_simulation(
            server_app=make_server_app(server),
            client_app=make_client_app(residence, wire_array),
            num_supernodes=server.config.num_clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    finally:
        ray.shutdown()
        logger.setLevel(level)
