"""What a SuperLink's register costs, measured: memory and work of many nodes, without a network."""

import os
import time
from pathlib import Path

from pchmr.federated.flower.api import FlowerVersionError

try:
    from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
    from flwr.server.superlink.linkstate import LinkStateFactory
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.superlink.federation import NoOpFederationManager
except Exception as error:
    raise FlowerVersionError(error) from error

INTERVAL_SECONDS = 30.0


def resident_bytes() -> int:
    """Memory that this process holds now, not the most that it ever held (Linux; 0 elsewhere)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_register(num_nodes: int, database: str) -> dict[str, float]:
    """Registers nodes in a new database; lets each say that it lives and ask for messages.

    Returns:
        Growth of memory in MB, size of the database in MB, and calls of nodes a CPU second.
    """
    manager, store = NoOpFederationManager(simulation=False), ObjectStoreFactory(database)
    state = LinkStateFactory(database, manager, store).state()
    before = resident_bytes()
    nodes = [
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, os.urandom(120), INTERVAL_SECONDS)
        for _ in range(num_nodes)
    ]
    began = time.process_time()
    for node in nodes:
        state.activate_node(node, INTERVAL_SECONDS)
        state.acknowledge_node_heartbeat(node, INTERVAL_SECONDS)
        state.get_message_ins(node, 1)
    spent = time.process_time() - began
    grown = resident_bytes() - before
    files = Path(database).parent.glob(f"{Path(database).name}*")
    return {
        "memory_mb": grown / 1e6,
        "database_mb": sum(path.stat().st_size for path in files) / 1e6,
        "calls_a_second": 3 * num_nodes / spent,
    }
