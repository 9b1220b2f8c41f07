"""What a server sees of a masked vector: uniform noise, whatever is under it."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pchmr.federated.secure import RoundAborted, masks
from pchmr.federated.secure.masks import Binding, Mask, apply_masks, scratch, stream
from pchmr.federated.secure.messages import Group, MaskedVector
from pchmr.federated.secure.packing import unpack
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of

BITS = 20
# One false alarm in ten million runs.
RARE = 1e-7


def masked_vectors(num_clients: int, vectors: np.ndarray, round_number: int, clients) -> np.ndarray:
    """Masked ring elements of every client, as the server gets them."""
    group = Group("delta", vectors.shape[1], 1.0, False, 1)
    offer = make_offer(clients, settings_of(group, bits=BITS), round_number)
    round_ = Rehearsal(offer, clients, [[row] for row in vectors.astype(np.float32)])
    round_.drops = {"consistency": range(num_clients)}
    with pytest.raises(RoundAborted):
        round_.run()
    sent = [m for m in round_.sent if isinstance(m, MaskedVector)]
    return np.array([unpack(memoryview(m.packed), vectors.shape[1], BITS)[0] for m in sent])


def test_masked_vectors_are_uniform() -> None:
    clients, constant = make_clients(5), np.full((5, 1000), 0.25)
    found = np.concatenate([masked_vectors(5, constant, r, clients) for r in range(1, 11)], axis=1)
    for shift in range(0, BITS, 4):  # every digit of the elements, in base 16
        for row in found:
            counts = np.bincount(row >> np.uint32(shift) & np.uint32(15), minlength=16)
            assert stats.chisquare(counts).pvalue > RARE


def test_bare_vectors_are_not_uniform() -> None:
    counts = np.bincount(np.full(1000, 7), minlength=16)
    assert stats.chisquare(counts).pvalue < RARE


def test_equal_sums_cannot_be_told_apart() -> None:
    """Nearest mean over the bits of the first two clients' vectors, trained on half the rounds."""
    clients = make_clients(5)
    plain = np.zeros((5, 16)), np.zeros((5, 16))
    plain[1][0], plain[1][1] = 0.9, -0.9
    rounds, bits = 32, np.arange(BITS, dtype=np.uint32)
    seen, bare, kinds = [], [], np.arange(rounds) % 2
    for i, kind in enumerate(kinds):
        found = masked_vectors(5, plain[kind], i + 1, clients)[:2].ravel()
        seen.append((found[:, None] >> bits & 1).ravel())
        bare.append(plain[kind][:2].ravel())
    assert stats.binomtest(right_guesses(np.array(seen), kinds), 16).pvalue > RARE
    assert right_guesses(np.array(bare), kinds) == 16


def right_guesses(seen: np.ndarray, kinds: np.ndarray) -> int:
    half = len(kinds) // 2
    means = [seen[:half][kinds[:half] == kind].mean(0) for kind in (0, 1)]
    away = [np.square(seen[half:] - mean).sum(1) for mean in means]
    return int(((away[1] < away[0]) == kinds[half:]).sum())


def weak_stream(key: bytes) -> masks.Stream:
    """A generator that knows only 2^9 seeds, as stock generators fold theirs."""
    return stream(bytes(30) + (int.from_bytes(key[:2], "big") % 2**9).to_bytes(2, "big"))


def brute_force(vector: np.ndarray) -> list[int]:
    """Seeds out of 2^9 under whose mask a vector of small values lies."""
    found, buffer = [], scratch()
    for seed in range(2**9):
        chunk = vector.copy()
        mask = Mask(stream(bytes(30) + seed.to_bytes(2, "big")), True)
        apply_masks(chunk, [mask], buffer, inverse=True)
        signed = (chunk << np.uint32(12)).view(np.int32) >> np.int32(12)
        if np.abs(signed).max() <= 2**10:
            found.append(seed)
    return found


@pytest.mark.parametrize("is_weak", [True, False])
def test_brute_force_breaks_a_weak_generator_only(is_weak: bool) -> None:
    small = np.arange(-32, 32, dtype=np.int32).view(np.uint32)
    key = bytes(range(100, 132))
    masked = small.copy()
    source = weak_stream(key) if is_weak else stream(key)
    apply_masks(masked, [Mask(source, True)], scratch())
    masked &= np.uint32(2**BITS - 1)
    assert len(brute_force(masked)) == (1 if is_weak else 0)


def test_every_binding_gives_another_mask() -> None:
    private, public = masks.new_key(), masks.public_key(masks.new_key())
    other = bytes([1]) * 32
    bindings = [
        Binding(bytes(32), bytes(32), bytes(32), 3),
        Binding(other, bytes(32), bytes(32), 3),
        Binding(bytes(32), other, bytes(32), 3),
        Binding(bytes(32), bytes(32), other, 3),
        Binding(bytes(32), bytes(32), bytes(32), 7),
    ]
    pairs = itertools.product(bindings, [(0, 1), (0, 2)])
    drawn = set()
    for binding, (own, peer) in pairs:
        buffer = scratch()
        masks.pair_mask(private, public, own, peer, binding).source(32, buffer)
        drawn.add(bytes(buffer[:32]))
    assert len(drawn) == 10
