"""Keys of a round and what is made from them: sealed shares, and the masks on a vector.

X25519 agrees on a secret, HKDF-SHA256 derives one key for one use from it, ChaCha20-Poly1305 seals
shares, AES-256 in counter mode makes masks and the random bits of rounding. The info of every
derivation and the associated data of every sealing name the round's context, so that bytes of
another round, another roster, other settings or another model fit nowhere.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pchmr.federated.secure.identity import PROTOCOL
from pchmr.federated.secure.packing import CHUNK, Ring
from pchmr.federated.secure.refusal import Reason, Refusal

NONCE_BYTES = 12
_ZEROS = bytes(4 * CHUNK)

"""A source of pseudo-random bytes: writes the next `size` of them to the front of a buffer."""
Stream = Callable[[int, bytearray], None]


@dataclass(frozen=True)
class Binding:
    """What every key of a round depends on.

    Attributes:
        context: SHA-256 of the offer: run, round, roster, settings, announced model.
        keys: SHA-256 of the list of keys that all clients were shown.
        model: SHA-256 of the global model that arrived.
        participants: Bit mask of the clients whose shares arrived.
    """

    context: bytes
    keys: bytes
    model: bytes = b""
    participants: int = 0

    def info(self, purpose: bytes, *clients: int) -> bytes:
        """The label of one use between some clients."""
        head = PROTOCOL + purpose.ljust(8, b"\0") + bytes(clients).ljust(2, b"\xff")
        return head + self.context + self.keys + self.model + self.participants.to_bytes(8, "big")


def new_key() -> bytes:
    """A fresh X25519 private key: 32 bytes from the system's randomness."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def derive(secret: bytes, info: bytes) -> bytes:
    """A key of 32 bytes for one use (RFC 5869)."""
    return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)


def agree(private: bytes, public: bytes, info: bytes) -> bytes:
    """A key of 32 bytes that the owners of two X25519 keys share, for one use.

    Raises:
        Refusal: The other's key is a point of small order.
    """
    try:
        other = X25519PublicKey.from_public_bytes(public)
        secret = X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError as error:
        raise Refusal(Reason.BAD_SIGNATURE, "a peer's key is none") from error
    return derive(secret, info)


def seal(key: bytes, plain: bytes, bound_to: bytes) -> bytes:
    """Encrypts and authenticates; what it is bound to must be known to open it."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """What was sealed.

    Raises:
        Refusal: It was sealed for another use, or changed since.
    """
    nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, rest, bound_to)
    except InvalidTag as error:
        raise Refusal(Reason.BAD_SHARE, "what was sealed does not open here") from error


def stream(key: bytes) -> Stream:
    """AES-256 in counter mode from block zero: a key is used for one stream only."""
    encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()

    def take(size: int, buffer: bytearray) -> None:
        encryptor.update_into(memoryview(_ZEROS)[:size], buffer)

    return take


def scratch() -> bytearray:
    """Room for a chunk of a stream."""
    return bytearray(len(_ZEROS) + 15)


@dataclass(frozen=True)
class Mask:
    """A stream of ring elements, and whether it is added or subtracted."""

    source: Stream
    is_added: bool


def self_mask(seed: bytes, client: int, binding: Binding) -> Mask:
    """What a client adds alone; it goes when t others give shares of its seed."""
    return Mask(stream(derive(seed, binding.info(b"self", client))), True)


def pair_mask(private: bytes, public: bytes, own: int, other: int, binding: Binding) -> Mask:
    """What two clients add and subtract, so that it cancels in their sum."""
    info = binding.info(b"pair", min(own, other), max(own, other))
    return Mask(stream(agree(private, public, info)), own > other)


def apply_masks(
    chunk: Ring, masks: Iterable[Mask], buffer: bytearray, inverse: bool = False
) -> None:
    """Adds and subtracts the next elements of every mask in place, modulo 2^32.

    Reduced modulo 2^r afterward the result is the same as in Z_2^r, since 2^r divides 2^32. One
    buffer for all masks stays in the processor's cache.
    """
    values = np.frombuffer(buffer, dtype="<u4", count=len(chunk))
    for mask in masks:
        mask.source(chunk.nbytes, buffer)
        if mask.is_added != inverse:
            chunk += values
        else:
            chunk -= values
