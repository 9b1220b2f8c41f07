"""What a client keeps to itself between rounds: control variates (SCAFFOLD), statistics (FedBN).

Kept on the client's side, by logical id, and never sent. Each round writes a version of its own
and reads the newest older one, so a round that is run again after a crash starts from the same
state.
"""

from pathlib import Path

import numpy as np

from pchmr.door.tensors import read_tensors
from pchmr.runs import sweep
from pchmr.runs.checkpoints import KEPT, write_vectors


class ClientStates:
    """Vectors of clients, in a folder of the run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Forgets every client."""
        sweep(self.folder)
        for path in self.folder.glob("client_*.safetensors"):
            path.unlink()

    def load(self, client_id: int, round_number: int) -> dict[str, np.ndarray]:
        """What the client kept before that round; empty if it never took part."""
        older = [path for path in self._versions(client_id) if _round_of(path) < round_number]
        return read_tensors(older[0], framework="numpy")[0] if older else {}

    def save(self, client_id: int, round_number: int, vectors: dict[str, np.ndarray]) -> None:
        """Keeps the client's vectors as of that round."""
        write_vectors(
            self.folder / f"client_{client_id:06d}_{round_number:06d}.safetensors", vectors
        )
        older = [p for p in self._versions(client_id) if _round_of(p) < round_number - KEPT]
        for path in older[1:]:  # the newest of them is what the oldest checkpoint goes on from
            path.unlink(missing_ok=True)

    def _versions(self, client_id: int) -> list[Path]:
        return sorted(self.folder.glob(f"client_{client_id:06d}_*.safetensors"), reverse=True)


def _round_of(path: Path) -> int:
    return int(path.stem.rsplit("_", 1)[1])
