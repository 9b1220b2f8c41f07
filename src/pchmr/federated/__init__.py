"""The exchange: what clients send, how the server combines it, and what carries the messages.

The only room that imports flwr, always through `flower/api.py`, which switches telemetry off first.
Algorithms, vectors, gate and checkpoints know no framework; the apps and the grid are thin. Names
are looked up when they are asked for, so that a device's process that only exchanges keys imports
no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pchmr.federated.algorithms import ALGORITHMS
    from pchmr.federated.flower.engines import ENGINES, Engine
    from pchmr.federated.policy import ClientPolicy
    from pchmr.federated.run import FederatedResult, run_federated
    from pchmr.federated.validation import Gate
    from pchmr.federated.world import Training, World

PLACES = {
    "ALGORITHMS": "algorithms",
    "Training": "world",
    "World": "world",
    "ENGINES": "flower.engines",
    "Engine": "flower.engines",
    "ClientPolicy": "policy",
    "FederatedResult": "run",
    "run_federated": "run",
    "Gate": "validation",
}


def __getattr__(name: str) -> Any:
    """A name of the room, from the file that it is in."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


__all__ = [
    "ALGORITHMS",
    "ENGINES",
    "ClientPolicy",
    "Engine",
    "FederatedResult",
    "Gate",
    "Training",
    "World",
    "run_federated",
]
