"""Flower's own app for a round of many weights: FedAvg as it comes, clients that train nothing.

What rounds of this package are held against, between machines and on ray (`pchmr bench deploy`,
`pchmr bench engines`).
"""

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from pchmr.federated.flower.api import (
    ArrayRecord,
    ClientApp,
    Context,
    Grid,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
)

from flwr.serverapp.strategy import FedAvg  # isort: skip


def into_file_of_run(context: Context, noted: list[float]) -> None:
    """Writes what was noted where the run was told to."""
    Path(str(context.run_config["run"])).write_text(json.dumps(noted), encoding="utf-8")


def stock_server(
    model: Callable[[], nn.Module],
    note: Callable[[], float],
    num_nodes: int,
    rounds: int,
    tell: Callable[[Context, list[float]], None] = into_file_of_run,
) -> ServerApp:
    """A server app that notes what a function says before the first and after each round.

    Args:
        model: Makes the weights.
        note: Says what is noted.
        num_nodes: That take part in each round.
        rounds: How many.
        tell: Is given what was noted in the end.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        noted: list[float] = []
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=num_nodes,
            min_available_nodes=num_nodes,
        )

        def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
            noted.append(note())
            return MetricRecord({"round": number})

        start = ArrayRecord(model().state_dict())
        strategy.start(grid, start, num_rounds=rounds, evaluate_fn=evaluate)
        tell(context, noted)

    return app


def stock_client(model: Callable[[], nn.Module]) -> ClientApp:
    """A client app that loads the weights and sends them back."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        network = model()
        arrays = message.content.array_records["arrays"]
        network.load_state_dict(arrays.to_torch_state_dict())
        content = RecordDict(
            {
                "arrays": ArrayRecord(network.state_dict()),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return Message(content, reply_to=message)

    return app
