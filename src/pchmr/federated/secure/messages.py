"""The messages of a round of secure aggregation, in the order in which they are sent.

Clients are numbered by their place in the cohort, which stands in the order of its keys. Every
message carries the round's context: SHA-256 of the whole offer, and so of run, round, attempt,
cohort, roster, settings and model. A set of clients is a bit mask of 64 bits.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pchmr.federated.secure.codec import (
    F64,
    U8,
    U32,
    U64,
    Digest,
    Flag,
    Key,
    Message,
    Payload,
    fixed,
    text,
)
from pchmr.federated.secure.identity import PROTOCOL, SIGNATURE_BYTES
from pchmr.federated.secure.shamir import SHARE_BYTES

RUN_BYTES = 16
SEALED_BYTES = 12 + 2 * SHARE_BYTES + 16
MOST_CLIENTS = 50


@dataclass(frozen=True)
class Group(Message):
    """Some values of the vector that share one range.

    Attributes:
        name: What they are.
        size: How many.
        bound: Their largest size: what lies beyond is clipped by the client.
        weighted: Whether each client's values count by its weight.
        limbs: Ring elements that carry one value: 1, or 2 for sums that need more digits.
    """

    name: Annotated[str, text(24)]
    size: U64
    bound: F64
    weighted: Flag
    limbs: U8

    @property
    def num_elements(self) -> int:
        """Ring elements of the group."""
        return self.size * self.limbs


@dataclass(frozen=True)
class Settings(Message):
    """How a vector is encoded, fixed from public values before anyone answers.

    Attributes:
        bits: Of a ring element, the carry of the cohort's sum included.
        weight_cap: The largest weight of a client.
        noise: Standard deviation of the sum's noise in clips, the bound of the one group being
            the clip of the whole vector's length; 0 for none.
        training: Digest of what the clients are to do: their config and the model's layout.
        groups: The vector, in order.
    """

    bits: U8
    weight_cap: F64
    noise: F64
    training: Digest
    groups: tuple[Group, ...]

    @property
    def num_elements(self) -> int:
        """Ring elements of the vector."""
        return sum(group.num_elements for group in self.groups)


@dataclass(frozen=True)
class RoundOffer(Message):
    """Stage 0, to every client of a cohort: what the round is to be."""

    run: Annotated[bytes, fixed(RUN_BYTES)]
    round: U32
    attempt: U32
    threshold: U8
    model: Digest
    roster: Digest
    cohort: tuple[Key, ...]
    settings: Settings

    @cached_property
    def context(self) -> bytes:
        """What every key, signature and sealed share of the round is bound to."""
        return hashlib.sha256(PROTOCOL + self.encode()).digest()


@dataclass(frozen=True)
class KeyAdvert(Message):
    """Stage 0, back: two fresh public keys and a hash of the own mask's seed, signed."""

    context: Digest
    sender: U8
    seal_key: Key
    mask_key: Key
    commitment: Digest
    signature: Annotated[bytes, fixed(SIGNATURE_BYTES)]

    @property
    def signed_part(self) -> bytes:
        """What the signature is over."""
        return self.context + bytes([self.sender]) + self.seal_key + self.mask_key + self.commitment


@dataclass(frozen=True)
class KeyList(Message):
    """Stage 1, to those who answered: their adverts, in the cohort's order."""

    adverts: tuple[KeyAdvert, ...]

    @cached_property
    def digest(self) -> bytes:
        """What sealed shares and masks are bound to, so that all must have seen the same keys."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True)
class SealedShare(Message):
    """Shares of one client's two secrets that only one other client can open."""

    source: U8
    target: U8
    sealed: Annotated[bytes, fixed(SEALED_BYTES)]


@dataclass(frozen=True)
class ShareBundle(Message):
    """Stage 1, back: a sealed share for each other client."""

    context: Digest
    sender: U8
    shares: tuple[SealedShare, ...]


@dataclass(frozen=True)
class ShareDelivery(Message):
    """Stage 2, beside the model: the shares meant for one client."""

    context: Digest
    shares: tuple[SealedShare, ...]


@dataclass(frozen=True)
class MaskedVector(Message):
    """Stage 2, back: the vector under its masks, `bits` bits an element."""

    context: Digest
    sender: U8
    packed: Payload


@dataclass(frozen=True)
class SurvivorList(Message):
    """Stage 3, to those whose vector arrived: who they are."""

    context: Digest
    survivors: U64


@dataclass(frozen=True)
class SurvivorSign(Message):
    """Stage 3, back: a signature on participants and survivors."""

    context: Digest
    sender: U8
    signature: Annotated[bytes, fixed(SIGNATURE_BYTES)]


@dataclass(frozen=True)
class UnmaskRequest(Message):
    """Stage 4: survivors whose own mask is to go, the signatures on them; all others are lost."""

    context: Digest
    survivors: U64
    lost: U64
    signatures: tuple[SurvivorSign, ...]


@dataclass(frozen=True)
class OneShare(Message):
    """A share of one secret of one client."""

    owner: U8
    share: Annotated[bytes, fixed(SHARE_BYTES)]


@dataclass(frozen=True)
class UnmaskShares(Message):
    """Stage 4, back: for a survivor a share of its own seed, for a lost one of its mask key."""

    context: Digest
    sender: U8
    shares: tuple[OneShare, ...]


def new_run_name(run: int) -> bytes:
    """A name of its own for each time that a server works on a run, which holds the run's number.

    Args:
        run: Below 2^64.
    """
    return os.urandom(RUN_BYTES - 8) + run.to_bytes(8, "big")


def run_of(name: bytes) -> int:
    """The number of the run that a name is of."""
    return int.from_bytes(name[-8:], "big")


def bit_mask(members: Iterable[int]) -> int:
    """A set of clients as an integer."""
    return sum(1 << member for member in set(members))


def members_of(mask: int) -> tuple[int, ...]:
    """The clients of a bit mask, in order."""
    return tuple(member for member in range(64) if mask >> member & 1)
