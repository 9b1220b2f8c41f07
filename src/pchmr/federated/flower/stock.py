"""A whole round of Flower's own secure aggregation (SecAgg+), beside which ours is measured.

Its mod and its workflow, through the legacy interface that they need, over the same in-process grid
as our rounds. Nothing of the package goes by it: its masks come from seeds folded to 32 bits,
counts and metrics travel in the clear, and keys are not signed.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pchmr.federated.flower.api import (
    ClientApp,
    ConfigRecord,
    Message,
    content_bytes,
    new_context,
)
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.secure.policy import threshold_of

# isort: split
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import (
    arrayrecord_to_parameters,
    parameters_to_arrayrecord,
)
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key

RUN_ID = 1
WEIGHT = 1000  # Flower's largest by default, at which it rounds least


@dataclass(frozen=True)
class RoundCost:
    """What a whole round cost.

    Attributes:
        client_seconds: CPU of one client over all stages, on average.
        total_seconds: CPU of all clients and the server.
        upload_bytes: Of one client over all stages, serialized.
        error: Relative L2 of the mean of those that stayed.
    """

    client_seconds: float
    total_seconds: float
    upload_bytes: float
    error: float


class _Client(NumPyClient):
    """Sends a vector, untrained."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def fit(self, parameters: list, config: Mapping) -> tuple[list, int, dict]:
        """What a client of the legacy interface answers."""
        return [self._values], WEIGHT, {}


class _Metered(InProcessGrid):
    """Gives lists, since Flower's workflow reads replies twice, and meters the clients."""

    def __init__(self, app: ClientApp, num_nodes: int, lost: int) -> None:
        super().__init__(app, num_nodes, RUN_ID)
        self.seconds, self.bytes_up = 0.0, Counter[int]()
        self._lost, self._asked = lost, Counter[int]()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """The replies of those that are there: some are lost from the masked vectors on."""
        return list(super().send_and_receive(messages, timeout=timeout))

    def _carry(self, messages: list[Message], timeout: float | None) -> Iterable[Message]:
        kept = []
        for message in messages:
            node = message.metadata.dst_node_id
            self._asked[node] += 1
            gone = node - 1 <= self._lost and self._asked[node] > 2
            kept += [] if gone else [message]
        return super()._carry(kept, timeout)

    def _deliver(self, message: Message) -> Message:
        began = time.process_time()
        reply = super()._deliver(message)
        self.seconds += time.process_time() - began
        if reply.has_error():
            raise RuntimeError(f"Flower's client failed: {reply.error}")
        self.bytes_up[message.metadata.dst_node_id] += content_bytes(reply.content)
        return reply


def stock_round(values: np.ndarray, num_clients: int, num_lost: int = 0) -> RoundCost:
    """One round of Flower's protocol in which every client sends the same vector.

    Args:
        values: The vector.
        num_clients: Of the cohort, all neighbors of each other.
        num_lost: Clients that answer no more once vectors are asked for.
    """
    app = ClientApp(client_fn=lambda _: _Client(values).to_client(), mods=[secaggplus_mod])
    grid = _Metered(app, num_clients, num_lost)
    start = ndarrays_to_parameters([np.zeros(1, dtype=np.float32)])
    strategy = FedAvg(
        fraction_fit=1.0, min_fit_clients=num_clients, min_available_clients=num_clients
    )
    manager = SimpleClientManager()
    for node in grid.get_node_ids():
        manager.register(GridClientProxy(node_id=node, grid=grid, run_id=RUN_ID))
    context = LegacyContext(new_context(RUN_ID, 0), strategy=strategy, client_manager=manager)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(start, True)
    workflow = SecAggPlusWorkflow(1.0, threshold_of(num_clients) / num_clients)
    began = time.process_time()
    workflow(grid, context)
    spent = time.process_time() - began
    mean = parameters_to_ndarrays(
        arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], True)
    )[0]
    error = float(np.linalg.norm(mean - values) / np.linalg.norm(values))
    whole = [count for node, count in grid.bytes_up.items() if node - 1 > num_lost]
    return RoundCost(grid.seconds / num_clients, spent, float(np.mean(whole)), error)
