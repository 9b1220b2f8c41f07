"""What all clients of a round agree on, as hashes: settings of training, and the model."""

import hashlib
from collections.abc import Sequence

import numpy as np


def training_digest(settings: str, fingerprint: str) -> bytes:
    """What all clients of a round are to agree on: the config's text and the model's layout."""
    return hashlib.sha256(f"{fingerprint}\n{settings}".encode()).digest()


def model_digest(arrays: Sequence[np.ndarray]) -> bytes:
    """SHA-256 of the global vectors, each with its length before it."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(len(array).to_bytes(8, "big"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
