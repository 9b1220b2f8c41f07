"""The server's folder: keys, settings of runs, invites, devices, and what runs left.

Everything in it is for the operator's eyes alone, and a folder that others could read is refused.
Nothing of a person is in it: a device is its keys, the logical clients that it plays, and the least
power of two above its number of samples.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pchmr.config import FederateConfig, SettingError, from_dict, from_json, require, to_json
from pchmr.deploy.certificates import CA_CERTIFICATE, fingerprint
from pchmr.deploy.folders import require_closed, require_folder, write_json
from pchmr.door import read_json
from pchmr.federated.secure import Roster
from pchmr.runs import make_private, write_bytes

ABOUT, SETTINGS, TOKEN, DEVICES = "federation.json", "run.json", "operator.token", "devices.json"
LIVE, RUNS, STATE = "live", "runs", "state.db"
FORMAT = "pchmr/federation/v1"
PSEUDONYM_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class About:
    """Where a federation is reached.

    Attributes:
        format: Of the folder.
        host: Address to listen on.
        port: Port of the server.
        names: Names in the server's certificate; devices use the first.
    """

    format: str = FORMAT
    host: str
    port: int
    names: tuple[str, ...]

    @property
    def address(self) -> str:
        """What invites name."""
        name = self.names[0]
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class EnrolledDevice:
    """A device that has joined.

    Attributes:
        node_id: Of Flower's SuperNode.
        node_key: Its public key, PEM.
        clients: Logical clients that it plays.
        keys: Their public signing keys, hexadecimal, in that order.
        most_samples: None of them holds more: a power of two.
        has_left: Whether its owner has withdrawn.
    """

    node_id: int
    node_key: str
    clients: tuple[int, ...]
    keys: tuple[str, ...]
    most_samples: int
    has_left: bool = False

    @property
    def pseudonym(self) -> str:
        """What an operator sees of a device."""
        digest = hashlib.sha256(self.node_key.encode()).hexdigest()
        return f"device-{digest[:PSEUDONYM_DIGITS]}"


@dataclass(frozen=True)
class Federation:
    """The folder of a federation."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> "Federation":
        """A folder that `pchmr deploy init` made.

        Raises:
            SettingError: It is none, or others could read it.
        """
        missing = f"{path} is no federation: `pchmr deploy init {path}` makes one"
        return cls(require_folder(path, (ABOUT, SETTINGS, TOKEN), missing))

    @classmethod
    def create(cls, path: Path, about: About, settings: FederateConfig) -> "Federation":
        """A new folder, or one whose settings are written anew.

        Raises:
            SettingError: The folder holds something else.
        """
        make_private(path, "DIR", marks=(ABOUT,))
        made = cls(path)
        made.write(ABOUT, asdict(about))
        write_bytes(path / SETTINGS, to_json(settings).encode(), private=True)
        if not (path / TOKEN).exists():
            write_bytes(path / TOKEN, secrets.token_hex(32).encode(), private=True)
        return made

    def write(self, name: str, value: object) -> None:
        """Writes a JSON file for the owner alone."""
        write_json(self.path / name, value)

    @property
    def about(self) -> About:
        """Where it is reached."""
        raw = dict(read_json(self.path / ABOUT))
        require(
            raw.get("format") == FORMAT,
            f"{self.path / ABOUT} is of another version of pchmr: make a new federation",
        )
        raw["names"] = list(raw["names"])
        return replace(from_dict(About, raw), names=tuple(map(str, raw["names"])))

    @property
    def settings(self) -> FederateConfig:
        """Of runs, before the number of clients is known."""
        return from_json(FederateConfig, (self.path / SETTINGS).read_text(encoding="utf-8"))

    @property
    def token(self) -> str:
        """What the operator shows to its own server."""
        return require_closed(self.path / TOKEN).read_text(encoding="utf-8").strip()

    @property
    def authority(self) -> str:
        """Fingerprint of the authority's certificate."""
        return fingerprint((self.path / CA_CERTIFICATE).read_bytes())

    @property
    def live(self) -> Path:
        """What is there only while the server runs."""
        return self.path / LIVE

    @property
    def devices(self) -> list[EnrolledDevice]:
        """Those that joined, in that order."""
        path = self.path / DEVICES
        if not path.exists():
            return []
        try:
            return [_device(raw) for raw in read_json(path)]
        except (KeyError, TypeError, ValueError) as error:
            raise SettingError(f"{path} is damaged ({error}): restore it from a copy") from None

    def write_devices(self, devices: Sequence[EnrolledDevice]) -> None:
        """Takes down who is there."""
        self.write(DEVICES, [asdict(device) for device in devices])

    @property
    def run_folders(self) -> list[Path]:
        """Of all runs, the last one last."""
        return sorted(path for path in (self.path / RUNS).glob("run-*") if path.is_dir())


def _device(raw: dict) -> EnrolledDevice:
    lists = {"clients": tuple(map(int, raw["clients"])), "keys": tuple(map(str, raw["keys"]))}
    plain = {name: value for name, value in raw.items() if name not in lists}
    return EnrolledDevice(**plain, **lists)


def public_keys(devices: Sequence[EnrolledDevice]) -> list[bytes]:
    """Signing keys by logical client."""
    found = {c: k for device in devices for c, k in zip(device.clients, device.keys, strict=True)}
    return [bytes.fromhex(found[client]) for client in sorted(found)]


def roster_of(devices: Sequence[EnrolledDevice]) -> Roster:
    """All clients that may take part."""
    return Roster.of(public_keys(devices))


def nodes_of(devices: Sequence[EnrolledDevice]) -> list[int]:
    """Node of each logical client."""
    found = {client: device.node_id for device in devices for client in device.clients}
    return [found[client] for client in sorted(found)]


def find_federation(given: Path | None) -> Federation:
    """The folder that was named, the current one, or the only federation in it.

    Raises:
        SettingError: There is none, or more than one.
    """
    if given is not None:
        return Federation.open(given)
    here = Path()
    found = [here] if (here / ABOUT).is_file() else [p.parent for p in here.glob(f"*/{ABOUT}")]
    found = [path for path in found if not (path / "device.json").exists()]
    require(
        len(found) == 1,
        "which federation? none is here: give its folder, or make one with `pchmr deploy init DIR`"
        if not found
        else f"which federation? give one of {', '.join(sorted(map(str, found)))}",
    )
    return Federation.open(found[0])
