"""What a client keeps to itself between rounds: control variates (SCAFFOLD), statistics (FedBN).

Kept on the client's side, by logical id, and never sent. Each round writes a version of its own
and reads the newest older one, so a round that is run again after a crash starts from the same
state. On a device the files are sealed, and those of a run end with it; a simulation's are plain,
since it reads them itself. Who has a device's key opens what it sealed.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from pchmr.door import read_bytes
from pchmr.door.limits import TENSORS_BYTES
from pchmr.door.tensors import read_tensors
from pchmr.federated.secure.masks import seal, unseal
from pchmr.runs import sweep, write_bytes
from pchmr.runs.checkpoints import KEPT, write_vectors

SEALED, PLAIN = ".sealed", ".safetensors"


class ClientStates:
    """Vectors of clients in a folder.

    Args:
        folder: Of a run, or of what is kept in it.
        key: Seals the files; None leaves them plain.
    """

    def __init__(self, folder: Path, key: bytes | None = None) -> None:
        self.folder, self._key = folder, key

    @classmethod
    def of_run(cls, folder: Path, run: int, key: bytes) -> "ClientStates":
        """Sealed vectors of one run; what other runs left in the folder is removed.

        Args:
            folder: Of a device.
            run: Number of the run, which its policy has let begin.
            key: See above.
        """
        own = folder / f"run_{run:016x}"
        for other in set(folder.glob("run_*")) - {own}:
            shutil.rmtree(other)
        return cls(own, key)

    def clear(self) -> None:
        """Forgets every client, and every run."""
        sweep(self.folder)
        for path in self.folder.glob(f"client_*{PLAIN}"):
            path.unlink()
        for path in self.folder.glob("run_*"):
            shutil.rmtree(path)

    def load(self, client_id: int, round_number: int) -> dict[str, np.ndarray]:
        """What the client kept before that round; empty if it never took part."""
        older = [path for path in self._versions(client_id) if _round_of(path) < round_number]
        return self._read(older[0]) if older else {}

    def save(self, client_id: int, round_number: int, vectors: dict[str, np.ndarray]) -> None:
        """Keeps the client's vectors as of that round."""
        path = self.folder / f"client_{client_id:06d}_{round_number:06d}{self._ending}"
        if self._key is None:
            write_vectors(path, vectors)
        else:
            sealed = seal(self._key, save(vectors), self._bound_to(path))
            write_bytes(path, sealed, private=True)
        older = [p for p in self._versions(client_id) if _round_of(p) < round_number - KEPT]
        for path in older[1:]:  # the newest of them is what the oldest checkpoint goes on from
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        if self._key is None:
            return read_tensors(path, framework="numpy")[0]
        sealed = read_bytes(path, TENSORS_BYTES)
        found = load(unseal(self._key, sealed, self._bound_to(path)))
        return {name: vector.copy() for name, vector in found.items()}

    def _bound_to(self, path: Path) -> bytes:
        """A sealed file holds for its client, round and run."""
        return f"kept/{self.folder.name}/{path.name}".encode()

    @property
    def _ending(self) -> str:
        return PLAIN if self._key is None else SEALED

    def _versions(self, client_id: int) -> list[Path]:
        found = self.folder.glob(f"client_{client_id:06d}_*{self._ending}")
        return sorted(found, reverse=True)


def fitting(vectors: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Those of the vectors that have the size that is asked for: others are of another layout."""
    return {n: vector for n, vector in vectors.items() if vector.shape == (sizes.get(n, -1),)}


def _round_of(path: Path) -> int:
    return int(path.stem.rsplit("_", 1)[1])
