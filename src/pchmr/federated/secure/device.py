"""What a client keeps on its disk for secure aggregation: key, pinned roster, ledger, open round.

One folder may hold many clients, as in a simulation, each under its number. The ledger and the key
outlive a run, since a client must not forget for which models it made a vector. In a simulation
`enroll` plays the part of the people who make keys on their devices and compare fingerprints.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pchmr.federated.secure.client import SecureClient
from pchmr.federated.secure.identity import Identity, Roster
from pchmr.federated.secure.policy import Ledger, SecurePolicy
from pchmr.federated.secure.refusal import Reason, Refusal
from pchmr.federated.secure.state import SealedState, is_older, overwrite
from pchmr.runs import make_folder, write_bytes

FOLDER, ROSTER = "secure", "roster.json"


class SecureDevice:
    """One client's files.

    Args:
        folder: Of the device's state.
        client_id: Logical id.
    """

    def __init__(self, folder: Path, client_id: int) -> None:
        self._folder, self._name = folder / FOLDER, f"client_{client_id:06d}"

    @property
    def key_path(self) -> Path:
        """The signing key."""
        return self._folder / f"{self._name}.key"

    @property
    def ledger_path(self) -> Path:
        """What must not be forgotten."""
        return self._folder / f"{self._name}.ledger.json"

    @property
    def state_path(self) -> Path:
        """Sealed secrets of the round that is going on; gone after it."""
        return self._folder / f"{self._name}.state"

    def client(self, policy: SecurePolicy, training: bytes) -> SecureClient:
        """The client, as it was left.

        Args:
            policy: What it asks of a round.
            training: Digest of the config and layout that it goes by.

        Raises:
            Refusal: It has no key or pinned roster, or its ledger is missing or damaged.
        """
        identity, pinned = self._identity(), self._folder / ROSTER
        if not pinned.exists():
            raise Refusal(Reason.FOREIGN_ROSTER, "no roster is pinned; pin the agreed one")
        path = self.ledger_path
        if not path.exists():
            cause = f"{path} is missing, and with it what was answered"
            raise Refusal(Reason.MALFORMED, f"{cause}: withdraw, and join with new keys")
        ledger = Ledger.from_bytes(path.read_bytes())

        def write(changed: Ledger) -> None:
            write_bytes(path, changed.to_bytes())

        return SecureClient(identity, Roster.load(pinned), training, policy, ledger, write)

    def open_round(self) -> SealedState:
        """Where the secrets of a round rest between its messages."""
        return SealedState(self.state_path, self.state_key())

    def state_key(self) -> bytes:
        """What seals all that this client keeps."""
        return self._identity().state_key()

    def begin_ledger(self) -> None:
        """Writes the empty ledger of a new key; one that is there stays."""
        if not self.ledger_path.exists():
            write_bytes(self.ledger_path, Ledger().to_bytes())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the client: of two messages that come at once, the second waits for the first."""
        if sys.platform == "win32":
            yield
            return
        import fcntl

        handle = os.open(self._folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _identity(self) -> Identity:
        if not self.key_path.exists():
            raise Refusal(Reason.MALFORMED, f"{self.key_path} is missing; make a key")
        return Identity.load(self.key_path)


def enroll(folder: Path, num_clients: int) -> list[bytes]:
    """Makes the keys that are missing and pins their roster on every simulated client.

    Returns:
        Public keys by client id.
    """
    make_folder(folder / FOLDER, private=True)
    found = []
    for client_id in range(num_clients):
        device = SecureDevice(folder, client_id)
        path = device.key_path
        if not path.exists():
            device.begin_ledger()
            Identity.generate().save(path)
        found.append(Identity.load(path).public)
    Roster.of(found).save(folder / FOLDER / ROSTER)
    return found


def forget(folder: Path) -> None:
    """Removes keys, ledgers and open rounds: other clients from now on."""
    for path in (folder / FOLDER).glob("client_*"):
        path.unlink()


def wipe_rounds(folder: Path, age: float | None = None) -> None:
    """Overwrites what the clients hold of rounds that were left unfinished.

    Args:
        folder: Of the device's state.
        age: Seconds since they were written last; None for all.
    """
    for pattern in ("client_*.state", ".client_*.state.*.tmp"):
        for path in (folder / FOLDER).glob(pattern):
            with suppress(FileNotFoundError):
                if age is None or is_older(path, age):
                    overwrite(path)


def wipe(folder: Path) -> None:
    """Overwrites keys and secrets of a device that goes for ever."""
    for path in (folder / FOLDER).glob("*"):
        overwrite(path)
