"""Shamir's secret sharing of 32-byte secrets (Shamir 1979, Communications of the ACM 22(11)).

Written here and not taken from pycryptodome, the one library at hand that has it: that shares 16
bytes at a time, combines in a hundred times the work, and is kept by nothing else in this package.
The field is the integers modulo the Mersenne prime 2^521 - 1, so that a secret is one integer and
every step is Python's own arithmetic. That does not run in constant time: who can measure a
client's processor is outside the threat model. Shares carry no check of their own; whoever combines
them compares the secret with what its owner signed (a public key, or a hash).
"""

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**521 - 1
SECRET_BYTES = 32
SHARE_BYTES = 66


def split(secret: bytes, points: Sequence[int], threshold: int) -> dict[int, bytes]:
    """Shares of a secret, one for each point; fewer than `threshold` of them say nothing about it.

    Args:
        secret: 32 bytes.
        points: Distinct integers from 1 on.
        threshold: Shares that are needed.
    """
    assert len(secret) == SECRET_BYTES and 1 <= threshold <= len(set(points)) == len(points)
    assert all(1 <= point < PRIME for point in points)
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return {point: _value(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points}


def _value(coefficients: Sequence[int], point: int) -> int:
    """The polynomial at a point (Horner), the highest coefficient first."""
    value = 0
    for coefficient in coefficients:
        value = (value * point + coefficient) % PRIME
    return value


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """The secret of at least `threshold` shares by point; None if they are not of one secret."""
    total = 0
    for point, share in shares.items():
        above = below = 1
        for other in shares:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        total += int.from_bytes(share, "big") * above * pow(below, -1, PRIME)
    total %= PRIME
    return total.to_bytes(SECRET_BYTES, "big") if total < 2 ** (8 * SECRET_BYTES) else None
