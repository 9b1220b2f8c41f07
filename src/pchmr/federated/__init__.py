"""The exchange: what clients send, how the server combines it, and what carries the messages.

The only room that imports flwr, always through `flower.py`, which switches telemetry off first.
Algorithms, vectors, gate and checkpoints know no framework; the apps and the grid are thin.
"""

from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.flower.engines import ENGINES, Engine
from pchmr.federated.policy import ClientPolicy
from pchmr.federated.run import FederatedResult, run_federated
from pchmr.federated.validation import Gate
from pchmr.federated.world import Training, World

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
