"""A client's secrets of one round, at rest between two messages.

Flower may start a process a message, so what a client must know at the next one lies in a file: the
state's bytes, sealed with a key that is derived from the client's identity, taken from disk before
it is used and gone after the last message. Python cannot promise that no copy stays in memory; what
the files hold is wiped.
"""

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pchmr.federated.secure.codec import U8, U64, Key, Message, fixed
from pchmr.federated.secure.masks import Binding, seal, unseal
from pchmr.federated.secure.messages import KeyList, RoundOffer, bit_mask
from pchmr.federated.secure.refusal import Reason, Refusal, refuse_unless
from pchmr.federated.secure.shamir import SHARE_BYTES
from pchmr.runs import replacing

NO_SECRET = bytes(32)
MOST_AGE_SECONDS = 86_400.0
"""After which a round counts as given up: its secrets are wiped, not used."""
STAGES = ("offered", "shared", "received", "masked", "signed")


@dataclass(frozen=True)
class HeldShares(Message):
    """What one client holds of another's secrets."""

    owner: U8
    seed: Annotated[bytes, fixed(SHARE_BYTES)]
    mask_key: Annotated[bytes, fixed(SHARE_BYTES)]


@dataclass(frozen=True)
class ClientState(Message):
    """All that a client knows of a round.

    Attributes:
        stage: Index in `STAGES`: what the client has done.
        offer: The round.
        own: The client's number.
        seal_key, mask_key, seed: Its secrets; zeros once they are not needed.
        keys: The list of keys that it was shown.
        held: Shares of the participants, its own among them.
        signed: The survivors that it signed for.
    """

    stage: U8
    offer: RoundOffer
    own: U8
    seal_key: Key
    mask_key: Key
    seed: Key
    keys: KeyList
    held: tuple[HeldShares, ...]
    signed: U64

    @property
    def participants(self) -> int:
        """Bit mask of the clients whose shares arrived, this one among them."""
        return bit_mask(held.owner for held in self.held)

    def require(self, stage: str, context: bytes) -> None:
        """Refuses a message that is not this round's next one.

        Raises:
            Refusal: Another stage, or another round.
        """
        same = context == self.offer.context
        refuse_unless(same, Reason.WRONG_ROUND, "the message is of another round")
        found = STAGES[self.stage]
        message = f"the client has {found} already" if found != stage else ""
        refuse_unless(found == stage, Reason.WRONG_STAGE, message)

    def at(self, stage: str, **changes: object) -> "ClientState":
        """The state after a step."""
        return replace(self, stage=STAGES.index(stage), **changes)  # type: ignore[arg-type]

    def sealing_binding(self) -> Binding:
        """What shares are sealed under."""
        return Binding(self.offer.context, self.keys.digest)

    def mask_binding(self) -> Binding:
        """What masks are made under: the model is the one that arrived, see `SecureClient`."""
        keys, model = self.keys.digest, self.offer.model
        return Binding(self.offer.context, keys, model, self.participants)


class SealedState:
    """A client's state of a round in one file, which only that client can open."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path, self._key = path, key

    def put(self, state: ClientState) -> None:
        """Seals and writes a state; one that an unfinished round left is wiped."""
        self.wipe()
        with replacing(self._path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(seal(self._key, state.encode(), b"state"))

    def take(self) -> ClientState:
        """The state, whose file is gone: no message is answered twice from one state.

        Raises:
            Refusal: There is none, it is too old, or it is another client's.
        """
        name = f".{self._path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp"
        taken = self._path.with_name(name)
        try:
            os.replace(self._path, taken)  # of two that take at once one gets it
        except FileNotFoundError:
            message = "the client takes no part in a round"
            raise Refusal(Reason.WRONG_STAGE, message) from None
        sealed, is_old = taken.read_bytes(), is_older(taken, MOST_AGE_SECONDS)
        overwrite(taken)
        refuse_unless(not is_old, Reason.WRONG_STAGE, "the client's round is over by its clock")
        return ClientState.decode(unseal(self._key, sealed, b"state"))

    def wipe(self) -> None:
        """Overwrites and removes the file."""
        overwrite(self._path)


def is_older(path: Path, seconds: float) -> bool:
    """Whether a file was written so long ago."""
    return time.time() - path.stat().st_mtime > seconds


def overwrite(path: Path) -> None:
    """Overwrites and removes a file, if it is there."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        file.write(os.urandom(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())
        path.unlink()
