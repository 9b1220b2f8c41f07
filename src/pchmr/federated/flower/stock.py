"""Flower's own secure aggregation (SecAgg+), its arithmetic alone, as a control for benchmarks.

Nothing of the package goes by it: its masks come from seeds folded to 32 bits, counts and metrics
travel in the clear, and keys are not signed. Quantization, masks and sums are Flower's functions in
the order in which its client and workflow call them; keys, shares and messages are left out, so the
cost that is measured here is a lower bound.
"""

import os
import time
from dataclasses import dataclass

import numpy as np
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

CLIPPING, STEPS, MODULUS = 8.0, 2**22, 2**32  # Flower's defaults
SEED_BYTES = 32


@dataclass(frozen=True)
class StockCost:
    """What a round cost.

    Attributes:
        client_seconds: CPU of one client.
        upload_bytes: Of one client.
        error: Relative L2 of the mean.
    """

    client_seconds: float
    upload_bytes: int
    error: float


def stock_round(values: np.ndarray, num_clients: int) -> StockCost:
    """All clients send the same vector with the largest weight; nobody is lost."""
    shape, half = [values.shape], num_clients // 2
    pairs = [os.urandom(SEED_BYTES) for _ in range(num_clients - 1)]
    own, began = os.urandom(SEED_BYTES), time.process_time()
    (codes,) = quantize([values.astype(np.float64)], CLIPPING, STEPS)
    plain = codes.copy()
    masked = codes + pseudo_rand_gen(own, MODULUS, shape)[0]
    for place, seed in enumerate(pairs):
        mask = pseudo_rand_gen(seed, MODULUS, shape)[0]
        masked = masked + mask if place < half else masked - mask
    sent = ndarray_to_bytes(np.mod(masked, MODULUS))
    spent = time.process_time() - began
    total = plain * num_clients  # masks cancel exactly: what is left is the quantized sum
    average = [total / num_clients]
    mean = dequantize(average, CLIPPING, STEPS)[0]  # pyright: ignore[reportArgumentType]
    error = float(np.linalg.norm(mean - values) / np.linalg.norm(values))
    return StockCost(spent, len(sent), error)
