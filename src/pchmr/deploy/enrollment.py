"""What the server answers on its own routes: its authority, a device that joins or leaves, rosters.

A device joins with the token of its invite and the public halves of keys that it made itself. It is
given its logical clients. Answers hold codes and numbers; what is wrong with a request is said in a
word, and words of a client are written nowhere.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pchmr.config import to_json
from pchmr.deploy.certificates import CA_CERTIFICATE
from pchmr.deploy.federation import EnrolledDevice, Federation, roster_of
from pchmr.deploy.invites import take_token
from pchmr.deploy.released import released_models
from pchmr.deploy.wire import ENROLL_PURPOSE, LEAVE_PURPOSE, claim_of
from pchmr.door import parse_json
from pchmr.federated.flower.superlink import Answer, Nodes
from pchmr.federated.secure.identity import KEY_BYTES, SIGNATURE_BYTES, is_signed

MOST_SAMPLES = 1 << 24
Request = Mapping[str, object]


class _Refused(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Enrollment:
    """Answers devices for a federation."""

    federation: Federation
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: bytes, nodes: Nodes) -> Answer:
        """The answer to a request."""
        routes: dict[str, Callable[[Request, Nodes], object]] = {
            "/pchmr/authority": self._authority,
            "/pchmr/settings": self._settings,
            "/pchmr/enroll": self._enroll,
            "/pchmr/known": self._known,
            "/pchmr/roster": self._roster,
            "/pchmr/released": self._released,
            "/pchmr/leave": self._leave,
        }
        try:
            if path not in routes:
                raise _Refused("no_route")
            asked = parse_json(body.decode()) if body else {}
            if not isinstance(asked, dict):
                raise _Refused("request")
            said = routes[path](asked, nodes)
        except _Refused as refused:
            return Answer(403, json.dumps({"code": refused.code}).encode())
        except (ValueError, KeyError, TypeError):
            return Answer(400, b'{"code": "request"}')
        return Answer(200, json.dumps(said).encode())

    def _authority(self, asked: Request, nodes: Nodes) -> object:
        pem = (self.federation.path / CA_CERTIFICATE).read_text(encoding="utf-8")
        return {"certificate": pem}

    def _enroll(self, asked: Request, nodes: Nodes) -> object:
        token, node_key = str(asked["token"]), str(asked["node_key"])
        keys = _keys(asked)
        most = asked["most_samples"]
        if type(most) is not int or not 1 <= most <= MOST_SAMPLES or most & (most - 1):
            raise _Refused("request")
        public = load_pem_public_key(node_key.encode())
        if not (isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp384r1"):
            raise _Refused("node_key")
        proofs = [bytes.fromhex(str(proof)) for proof in _list(asked, "proofs")]
        claim = claim_of(token, self.federation.authority)
        pairs = zip(keys, proofs, strict=True)
        if not all(is_signed(key, ENROLL_PURPOSE, claim, proof) for key, proof in pairs):
            raise _Refused("proof")
        with self._lock:
            return self._admit(token, node_key, keys, most, nodes)

    def _admit(
        self, token: str, node_key: str, keys: list[bytes], most: int, nodes: Nodes
    ) -> object:
        devices = self.federation.devices
        known = {key for device in devices for key in device.keys}
        if known & {key.hex() for key in keys} or len(set(keys)) < len(keys):
            raise _Refused("key_known")
        found = take_token(self.federation, token)
        if isinstance(found, str):
            raise _Refused(found)
        if found != len(keys):
            raise _Refused("number_of_keys")
        first = sum(len(device.clients) for device in devices)
        device = EnrolledDevice(
            node_id=nodes.register(node_key.encode()),
            node_key=node_key,
            clients=tuple(range(first, first + found)),
            keys=tuple(key.hex() for key in keys),
            most_samples=most,
        )
        self.federation.write_devices([*devices, device])
        return {"clients": device.clients, "pseudonym": device.pseudonym}

    def _settings(self, asked: Request, nodes: Nodes) -> object:
        return {"settings": to_json(self.federation.settings)}

    def _known(self, asked: Request, nodes: Nodes) -> object:
        devices = [device for device in self.federation.devices if not device.has_left]
        if not any(asked["key"] in device.keys for device in devices):
            raise _Refused("key_unknown")
        return {}

    def _roster(self, asked: Request, nodes: Nodes) -> object:
        return {"keys": [key.hex() for key in roster_of(self.federation.devices).keys]}

    def _released(self, asked: Request, nodes: Nodes) -> object:
        device = self._signed_by(asked)
        found = [released_models(self.federation, client) for client in device.clients]
        return {"models": list(dict.fromkeys(model for models in found for model in models))}

    def _leave(self, asked: Request, nodes: Nodes) -> object:
        with self._lock:
            found = self._signed_by(asked)
            nodes.remove(found.node_id)
            gone = replace(found, has_left=True)
            devices = [gone if d == found else d for d in self.federation.devices]
            self.federation.write_devices(devices)
        return {"clients": found.clients}

    def _signed_by(self, asked: Request) -> EnrolledDevice:
        """The device that says something of itself, if it is here and says so itself."""
        key, proof = bytes.fromhex(str(asked["key"])), bytes.fromhex(str(asked["proof"]))
        if not is_signed(key, LEAVE_PURPOSE, claim_of("", self.federation.authority), proof):
            raise _Refused("proof")
        devices = [device for device in self.federation.devices if not device.has_left]
        found = next((device for device in devices if key.hex() in device.keys), None)
        if found is None:
            raise _Refused("key_unknown")
        return found


def _list(asked: Request, name: str) -> list[object]:
    found = asked[name]
    if not isinstance(found, list):
        raise _Refused("request")
    return found


def _keys(asked: Request) -> list[bytes]:
    keys = [bytes.fromhex(str(key)) for key in _list(asked, "keys")]
    proofs = _list(asked, "proofs")
    fits = all(len(key) == KEY_BYTES for key in keys) and len(proofs) == len(keys)
    if not keys or not fits or any(len(str(proof)) != 2 * SIGNATURE_BYTES for proof in proofs):
        raise _Refused("request")
    return keys
