"""The exchange: what clients send, how the server combines it, and what carries the messages.

The only room that imports flwr, always through `flower.py`, which switches telemetry off first.
Algorithms, vectors, gate and checkpoints know no framework; the apps and the grid are thin.
"""

from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client import Training, World
from pchmr.federated.flower.engines import ENGINES
from pchmr.federated.run import FederatedResult, run_federated

__all__ = ["ALGORITHMS", "ENGINES", "FederatedResult", "Training", "World", "run_federated"]
