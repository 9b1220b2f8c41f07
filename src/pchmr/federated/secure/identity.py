"""Who a client is: an Ed25519 key made on its device, and the roster of all that may take part.

A roster is pinned on each client out of band; the fingerprint is what people compare. The server
brings a roster too, and one that is not the pinned one is refused. What is not here: how a roster
reaches a client.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pchmr.federated.secure.refusal import Reason, Refusal, refuse_unless
from pchmr.runs import replacing

KEY_BYTES = 32
SIGNATURE_BYTES = 64
ROSTER_FORMAT = "pchmr/roster/v1"
PROTOCOL = b"pchmr/secure/v1 "


@dataclass(frozen=True)
class Roster:
    """The public keys of all clients that may take part, in order, each once.

    Attributes:
        keys: Ed25519 public keys of 32 bytes.
    """

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        sizes = {len(key) for key in self.keys}
        refuse_unless(sizes <= {KEY_BYTES}, Reason.MALFORMED, "a roster holds keys of 32 bytes")
        doubled = len(set(self.keys)) < len(self.keys)
        refuse_unless(not doubled, Reason.DOUBLED, "a roster names one client twice")
        in_order = list(self.keys) == sorted(self.keys)
        refuse_unless(in_order, Reason.MALFORMED, "a roster's keys stand in order")

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> "Roster":
        """The roster of some keys in any order."""
        return cls(tuple(sorted(keys)))

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the keys: 32 bytes, what is compared over another channel."""
        return hashlib.sha256(ROSTER_FORMAT.encode() + b"".join(self.keys)).digest()

    def save(self, path: Path) -> None:
        """Writes the roster as JSON."""
        text = json.dumps({"format": ROSTER_FORMAT, "keys": [key.hex() for key in self.keys]})
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Roster":
        """Reads a roster.

        Raises:
            Refusal: The file is not one.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            keys = tuple(bytes.fromhex(key) for key in found["keys"])
            is_known = found["format"] == ROSTER_FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refusal(Reason.MALFORMED, f"{path} is no roster; export it anew") from error
        refuse_unless(is_known, Reason.MALFORMED, f"{path} is a roster of another version")
        return cls(keys)


def pinned(known: Roster | None, offered: Roster, trust_on_first_use: bool = False) -> Roster:
    """The roster that a client goes by, given the one that the server brought.

    Args:
        known: What was pinned out of band, or on first use.
        offered: What the server says.
        trust_on_first_use: Take the server's word if nothing is pinned yet.

    Raises:
        Refusal: The server's is another one, or nothing is pinned and trust was not asked for.
    """
    if known is None:
        cure = "pin the roster that its clients agreed on, or ask for trust on first use"
        refuse_unless(trust_on_first_use, Reason.FOREIGN_ROSTER, f"no roster is pinned; {cure}")
        return offered
    same = known == offered
    refuse_unless(same, Reason.FOREIGN_ROSTER, "the server's roster is not the pinned one")
    return known


class Identity:
    """A client's long-term signing key."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Identity":
        """A new one, from the system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def sign(self, purpose: bytes, payload: bytes) -> bytes:
        """A signature that holds for one purpose only."""
        return self._key.sign(PROTOCOL + purpose + payload)

    def state_key(self) -> bytes:
        """The key that seals this client's state between messages: 32 bytes."""
        derive = HKDF(SHA256(), KEY_BYTES, salt=None, info=PROTOCOL + b"state")
        return derive.derive(self._key.private_bytes_raw())

    def save(self, path: Path) -> None:
        """Writes the key to a file that only its owner can read."""
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(self._key.private_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Reads a key.

        Raises:
            Refusal: Others can read the file, or it is no key.
        """
        closed = path.stat().st_mode & 0o077 == 0
        refuse_unless(closed, Reason.MALFORMED, f"others can read {path}; run chmod 600 on it")
        seed = path.read_bytes()
        refuse_unless(len(seed) == KEY_BYTES, Reason.MALFORMED, f"{path} is no key; make a new one")
        return cls(seed)


def is_signed(public: bytes, purpose: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether the owner of a public key signed this for this purpose."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, PROTOCOL + purpose + payload)
    except (InvalidSignature, ValueError):
        return False
    return True
