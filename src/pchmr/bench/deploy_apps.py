"""The apps of `pchmr bench deploy`: ours and Flower's own, with weights that nobody trains."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from pchmr.bench.federated import NoPeople, _no_epoch, _sgd, weights
from pchmr.config import FederateConfig
from pchmr.deploy.federation import Federation, nodes_of
from pchmr.deploy.processes import MARK, PLACE, cpu_seconds
from pchmr.federated import Engine, Training, World, run_federated
from pchmr.federated.flower.api import ClientApp, Context, Grid, ServerApp, wire_array
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.stock_app import stock_client, stock_server
from pchmr.runs import RunFolder

MILLIONS, NUM_NODES, ROUNDS = 10, 2, 3


def world() -> World:
    """Ten million weights, and clients without people."""
    return World(
        model=weights(MILLIONS),
        body=None,
        train_set=NoPeople(NUM_NODES),
        partitions=list(np.arange(NUM_NODES)[:, None]),
        training=Training(_sgd, _no_epoch),
    )


def spent() -> float:
    """CPU seconds of all processes of the federation so far."""
    return cpu_seconds(os.environ[MARK])


def own_server() -> ServerApp:
    """Our rounds."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        federation = Federation.open(Path(os.environ[PLACE]))
        config = FederateConfig(
            num_clients=NUM_NODES, clients_per_round=NUM_NODES, num_rounds=ROUNDS, evaluate_every=0
        )
        engine = Engine(
            wire_array,
            lambda server, world, folder: server.run(grid),
            public_keys=[],
            nodes=nodes_of(federation.devices),
        )
        noted = [spent()]
        folder = Path(str(context.run_config["run"]))
        run = RunFolder(folder.with_suffix(".run"))
        run_federated(
            config, world(), run, engine=engine, on_round=lambda row: noted.append(spent())
        )
        folder.write_text(json.dumps(noted), encoding="utf-8")

    return app


def own_client() -> ClientApp:
    """Our client app."""
    return make_client_app(Residence(world(), Path(os.environ[PLACE])), wire_array)


APPS = {
    "own_server": own_server,
    "own_client": own_client,
    "stock_server": partial(stock_server, partial(weights, MILLIONS), spent, NUM_NODES, ROUNDS),
    "stock_client": partial(stock_client, partial(weights, MILLIONS)),
}
