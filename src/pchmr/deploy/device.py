"""A device's folder: keys that were made here, the owner's policy, what is kept between rounds.

The private halves of keys never leave it. What the device plays stands in `device.json`; its people
are in another folder, the only one besides that is read.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from pchmr.config import FederateConfig, SettingError, from_dict
from pchmr.deploy.folders import require_closed, require_folder, write_json
from pchmr.door import read_json
from pchmr.federated.client_state import ClientStates
from pchmr.federated.policy import POLICY, ClientPolicy
from pchmr.federated.secure import Roster
from pchmr.federated.secure.device import FOLDER as SECURE
from pchmr.federated.secure.device import ROSTER, SecureDevice
from pchmr.federated.secure.identity import Identity
from pchmr.runs import make_folder, make_private, write_bytes

ABOUT, AUTHORITY, NODE_KEY, TRUSTED = "device.json", "authority.crt", "node.key", "trusted.yaml"
DEFAULT_NAME, LIVE, PENDING = "federation", "live", "pending"
LAYOUTS, RUNS, KEPT = "layouts.json", "runs.json", "kept"
SUMS_ONLY = ("secure",)
OTHER_SIGN, LONGEST_NAME = re.compile(r"[^A-Za-z0-9_.-]"), 64
"""Of what a server calls a run, before it is written down here."""
MOST_RUNS = 20
"""Runs of a federation that a device answers before its owner allows more (`policy.json`)."""


@dataclass(frozen=True, kw_only=True)
class AboutDevice:
    """What a device plays, and for whom.

    Attributes:
        address: Of the server, host:port.
        authority: Fingerprint of its authority.
        pseudonym: What the operator sees.
        data: Folder of the people.
        clients: Logical clients.
    """

    address: str
    authority: str
    pseudonym: str
    data: str
    clients: tuple[int, ...]


@dataclass(frozen=True)
class DeviceFolder:
    """The folder of a device."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> "DeviceFolder":
        """A folder in which a device has joined.

        Raises:
            SettingError: It has not, or others could read it.
        """
        missing = f"{path} holds no device: `pchmr deploy join` makes one"
        return cls(require_folder(path, (ABOUT,), missing))

    @classmethod
    def create(cls, path: Path) -> "DeviceFolder":
        """A new folder, or one in which joining was not finished."""
        make_private(path, "--folder", marks=(ABOUT, NODE_KEY))
        make_folder(path / SECURE, private=True)
        return cls(path)

    @property
    def has_joined(self) -> bool:
        """Whether the server knows this device."""
        return (self.path / ABOUT).is_file()

    @property
    def live(self) -> Path:
        """What is there only while the device's program runs."""
        return self.path / LIVE

    @property
    def about(self) -> AboutDevice:
        """What it plays."""
        raw = dict(read_json(self.path / ABOUT))
        return replace(from_dict(AboutDevice, raw), clients=tuple(map(int, raw["clients"])))

    @property
    def authority(self) -> str:
        """The certificate of the federation's authority, PEM."""
        return (self.path / AUTHORITY).read_text(encoding="utf-8")

    def node_public(self) -> str:
        """The public half of the key that Flower knows the device by, PEM; makes the key."""
        path = self.path / NODE_KEY
        if not path.exists():
            made = ec.generate_private_key(ec.SECP384R1())
            raw = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            write_bytes(path, raw, private=True)
        try:
            key = load_ssh_private_key(require_closed(path).read_bytes(), None)
        except ValueError:
            raise SettingError(f"{path} is damaged: withdraw, and join with a new invite") from None
        return (
            key.public_key()
            .public_bytes(  # type: ignore[union-attr]
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    def pending_keys(self, count: int) -> list[Identity]:
        """Signing keys for so many clients whose numbers are not known yet; makes them."""
        found = []
        for number in range(count):
            path = self.path / SECURE / f"{PENDING}_{number}.key"
            if not path.exists():
                Identity.generate().save(path)
            found.append(Identity.load(path))
        return found

    def settle(self, about: AboutDevice, agreed: ClientPolicy | None = None) -> None:
        """Gives the keys their clients' numbers, and writes policy and `device.json`, that last.

        Args:
            about: What the device plays.
            agreed: Policy of a new device, but for its clients and the number of runs.
        """
        for number, client in enumerate(about.clients):
            path = self.path / SECURE / f"{PENDING}_{number}.key"
            if path.exists():
                device = SecureDevice(self.path, client)
                device.begin_ledger()
                os.replace(path, device.key_path)
        if not (self.path / POLICY).exists():
            policy = agreed or ClientPolicy()
            own = replace(policy, client_ids=about.clients, max_runs=MOST_RUNS)
            own.save(self.path / POLICY)
        write_json(self.path / ABOUT, asdict(about))

    def identity(self) -> Identity:
        """The key of the first client: in whose name the device speaks of itself."""
        return Identity.load(SecureDevice(self.path, self.about.clients[0]).key_path)

    @property
    def answered_runs(self) -> list[str]:
        """Runs that the device trained for, by the server's name and its own record's number."""
        return [f"the model of {name} ({run})" for run, name in self._read(RUNS).items()]

    def took_part(self, run: int, name: str) -> str:
        """Takes down that a model learns from the device's people.

        Args:
            run: Number of the run.
            name: Of its model, by the server.

        Returns:
            The name that stands there for the run: the first one, with no sign but letters, digits,
            dots, dashes and underscores.
        """
        known = self._read(RUNS)
        if str(run) not in known:
            known[str(run)] = OTHER_SIGN.sub("_", name[:LONGEST_NAME]) or "unnamed"
            self._write(RUNS, known)
        return known[str(run)]

    def layout(self, config: FederateConfig) -> str | None:
        """Fingerprint of the network that settings name, if it was built here before."""
        return self._read(LAYOUTS).get(_network(config))

    def remember_layout(self, config: FederateConfig, fingerprint: str) -> None:
        """Keeps the fingerprint of a network that was built."""
        self._write(LAYOUTS, {**self._read(LAYOUTS), _network(config): fingerprint})

    def _read(self, name: str) -> dict[str, str]:
        path = self.path / name
        return {str(k): str(v) for k, v in read_json(path).items()} if path.exists() else {}

    def _write(self, name: str, value: dict[str, str]) -> None:
        write_json(self.path / name, value)

    def kept(self, run: int, client: int) -> ClientStates:
        """What a client keeps between the rounds of a run, sealed."""
        key = SecureDevice(self.path, client).state_key()
        return ClientStates.of_run(self.path / KEPT, run, key)

    @property
    def pinned(self) -> Roster | None:
        """The roster that its owner confirmed."""
        path = self.path / SECURE / ROSTER
        return Roster.load(path) if path.exists() else None

    def pin(self, roster: Roster) -> None:
        """Keeps the roster that its owner confirmed, in place of the one before."""
        roster.save(self.path / SECURE / ROSTER)

    @property
    def policy(self) -> ClientPolicy:
        """What its owner lets it do."""
        return ClientPolicy.load(self.path / POLICY)

    def take_sums_only(self) -> bool:
        """Lets it answer no plain task any more; whether it did so far."""
        known = self.policy
        if known.aggregations == SUMS_ONLY:
            return False
        replace(known, aggregations=SUMS_ONLY).save(self.path / POLICY)
        return True


def _network(config: FederateConfig) -> str:
    """What the layout of a network follows from, as a hash."""
    server = config.server_options
    said = (
        asdict(config.model_options),
        config.algorithm,
        config.data_options.image_size,
        server.trainable,
        server.lora_rank,
        server.batch_norm,
        version("pchmr"),
    )
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def find_device(folder: Path | None, data: Path | None) -> DeviceFolder:
    """The folder that was named, or the one beside the people.

    Raises:
        SettingError: None is there.
    """
    if folder is None and data is None:
        here = Path()
        near = (here, here / DEFAULT_NAME)
        folder = next((path for path in near if (path / ABOUT).is_file()), here)
    return DeviceFolder.open(folder if folder is not None else data / DEFAULT_NAME)  # type: ignore[operator]
