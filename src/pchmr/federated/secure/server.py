"""The server's half of one round: collects answers stage by stage and opens the sum, no framework.

Whoever does not answer a stage is left out of the next. Below the threshold the round is given up
(`RoundAborted`). A masked vector is added to the sum as it arrives and dropped. Each reconstructed
secret is compared with what its owner signed, so a sum that comes out is the survivors' sum.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from random import SystemRandom

import numpy as np

from pchmr.federated.secure.client import (
    SURVIVORS_PURPOSE,
    commitment,
    is_advert_signed,
    survivors_statement,
)
from pchmr.federated.secure.encoding import Values, coders, decode
from pchmr.federated.secure.identity import is_signed
from pchmr.federated.secure.masks import (
    Binding,
    Mask,
    apply_masks,
    pair_mask,
    public_key,
    scratch,
    self_mask,
)
from pchmr.federated.secure.messages import (
    KeyAdvert,
    KeyList,
    MaskedVector,
    RoundOffer,
    SealedShare,
    ShareBundle,
    ShareDelivery,
    SurvivorList,
    SurvivorSign,
    UnmaskRequest,
    UnmaskShares,
    bit_mask,
)
from pchmr.federated.secure.packing import Ring, chunk_lengths, packed_size, unpack
from pchmr.federated.secure.refusal import Reason, Refusal, RoundAborted, refuse_unless
from pchmr.federated.secure.shamir import combine

MOST_SUBSETS = 1000


@dataclass(frozen=True)
class SecureSum:
    """What a round gave.

    Attributes:
        values: Sums over the survivors, one flat array a group.
        survivors: Their numbers in the cohort.
    """

    values: list[Values]
    survivors: tuple[int, ...]


class SecureServer:
    """One round.

    Args:
        offer: The round, as sent to its cohort.

    Raises:
        Refusal: The settings leave no room in the ring.
    """

    def __init__(self, offer: RoundOffer) -> None:
        coders(offer.settings, len(offer.cohort))
        self.offer, self._context = offer, offer.context
        self._adverts: dict[int, KeyAdvert] = {}
        self._sealed: dict[int, dict[int, SealedShare]] = {}
        self._arrived: set[int] = set()
        self._signatures: dict[int, SurvivorSign] = {}
        self._answers: dict[int, dict[int, bytes]] = {}
        self._believed: tuple[int, ...] = ()
        self._keys: KeyList | None = None
        self._participants: frozenset[int] | None = None
        self._survivors: frozenset[int] | None = None
        self._total: Ring = np.zeros(offer.settings.num_elements, dtype=np.uint32)

    def take_advert(self, advert: KeyAdvert) -> None:
        """Stage 0: one client's keys.

        Raises:
            Refusal: They are not signed for this round, came twice, or too late.
        """
        self._check(advert, self._keys is None, advert.sender not in self._adverts)
        known = is_advert_signed(self.offer, advert)
        refuse_unless(known, Reason.BAD_SIGNATURE, "keys are not signed by a client of this round")
        self._adverts[advert.sender] = advert

    def key_list(self) -> KeyList:
        """Stage 1: all keys that came.

        Raises:
            RoundAborted: Fewer than the threshold.
        """
        if self._keys is None:
            self._require_enough(len(self._adverts), "keys")
            self._keys = KeyList(tuple(self._adverts[i] for i in sorted(self._adverts)))
        return self._keys

    def take_shares(self, bundle: ShareBundle) -> None:
        """Stage 1: one client's sealed shares.

        Raises:
            Refusal: They are not one for each other client, came twice, or too late.
        """
        fresh = bundle.sender not in self._sealed
        self._check(bundle, self._keys is not None and self._participants is None, fresh)
        targets = sorted(share.target for share in bundle.shares)
        wanted = sorted(set(self._adverts) - {bundle.sender})
        whole = targets == wanted and all(s.source == bundle.sender for s in bundle.shares)
        refuse_unless(whole, Reason.BAD_SHARE, "shares are not one for each other client")
        self._sealed[bundle.sender] = {share.target: share for share in bundle.shares}

    def close_shares(self) -> frozenset[int]:
        """Stage 2, before anyone is asked for a vector: the participants.

        Raises:
            RoundAborted: Fewer than the threshold.
        """
        if self._participants is None:
            self._require_enough(len(self._sealed), "shares")
            self._participants = frozenset(self._sealed)
        return self._participants

    def delivery(self, client: int) -> ShareDelivery:
        """Stage 2: what one participant is to get of the others.

        Raises:
            RoundAborted: Fewer participants than the threshold.
        """
        sources = sorted(self.close_shares() - {client})
        return ShareDelivery(self._context, tuple(self._sealed[s][client] for s in sources))

    def take_vector(self, vector: MaskedVector) -> None:
        """Stage 2: adds one client's masked vector to the sum.

        Raises:
            Refusal: It has another size, came twice, or too late.
        """
        is_open = self._participants is not None and self._survivors is None
        self._check(vector, is_open, vector.sender not in self._arrived)
        taking_part = vector.sender in (self._participants or ())
        refuse_unless(taking_part, Reason.WRONG_STAGE, "a vector of no participant")
        bits, rest = self.offer.settings.bits, memoryview(vector.packed).cast("B")
        fits = len(rest) == packed_size(len(self._total), bits)
        refuse_unless(fits, Reason.WRONG_SIZE, "a masked vector has another size")
        for chunk in self._chunks():
            values, size = unpack(rest, len(chunk), bits)
            chunk += values
            rest = rest[size:]
        self._arrived.add(vector.sender)

    def survivor_list(self) -> SurvivorList:
        """Stage 3: whose vectors came.

        Raises:
            RoundAborted: Fewer than the threshold.
        """
        if self._survivors is None:
            self._require_enough(len(self._arrived), "masked")
            self._survivors = frozenset(self._arrived)
        return SurvivorList(self._context, bit_mask(self._survivors))

    def take_signature(self, answer: SurvivorSign) -> None:
        """Stage 3: one client's signature on the survivors.

        Raises:
            Refusal: It does not hold, came twice, or too early.
        """
        is_open = self._survivors is not None and answer.sender in self._survivors
        self._check(answer, is_open, answer.sender not in self._signatures)
        statement = survivors_statement(self._binding(), bit_mask(self._survivors or ()))
        public = self.offer.cohort[answer.sender]
        holds = is_signed(public, SURVIVORS_PURPOSE, statement, answer.signature)
        refuse_unless(holds, Reason.BAD_SIGNATURE, "the survivors are not signed")
        self._signatures[answer.sender] = answer

    def unmask_request(self) -> UnmaskRequest:
        """Stage 4: to every client that signed.

        Raises:
            RoundAborted: Fewer than the threshold.
        """
        self._require_enough(len(self._signatures), "consistency")
        survivors = bit_mask(self._survivors or ())
        lost = bit_mask(self._participants or ()) & ~survivors
        signatures = tuple(self._signatures[i] for i in sorted(self._signatures))
        return UnmaskRequest(self._context, survivors, lost, signatures)

    def take_unmasking(self, answer: UnmaskShares) -> None:
        """Stage 4: one client's shares.

        Raises:
            Refusal: They are not one of each participant, came twice, or too early.
        """
        fresh = answer.sender not in self._answers
        self._check(answer, answer.sender in self._signatures, fresh)
        shares = {share.owner: share.share for share in answer.shares}
        whole = set(shares) == self._participants and len(shares) == len(answer.shares)
        refuse_unless(whole, Reason.BAD_SHARE, "shares are not one of each participant")
        self._answers[answer.sender] = shares

    def finish(self) -> SecureSum:
        """Takes the masks off and decodes the sum.

        Raises:
            RoundAborted: Too few answers, or they are not shares of what was signed.
        """
        self._require_enough(len(self._answers), "unmask")
        masks, buffer = list(self._masks()), scratch()
        for chunk in self._chunks():
            apply_masks(chunk, masks, buffer, inverse=True)
        values = decode(self.offer.settings, len(self.offer.cohort), self._total)
        return SecureSum(values, tuple(sorted(self._survivors or ())))

    def _masks(self) -> Iterator[Mask]:
        """The masks that are left in the sum: survivors' own, and theirs with the lost."""
        binding, survivors = self._binding(), sorted(self._survivors or ())
        for owner in survivors:
            wanted = self._adverts[owner].commitment
            seed = self._secret(owner, lambda s, o=owner: commitment(self._context, o, s), wanted)
            yield self_mask(seed, owner, binding)
        for owner in sorted((self._participants or frozenset()) - set(survivors)):
            private = self._secret(owner, public_key, self._adverts[owner].mask_key)
            for other in survivors:
                mask = pair_mask(private, self._adverts[other].mask_key, owner, other, binding)
                yield Mask(mask.source, not mask.is_added)

    def _secret(self, owner: int, check: Callable[[bytes], bytes], wanted: bytes) -> bytes:
        """A client's secret from the first shares that give what it signed.

        Whose shares gave the last client's secret are asked first for the next one's: a liar lies
        about all.
        """
        shares = {i + 1: answer[owner] for i, answer in sorted(self._answers.items())}
        told = [self._believed] if self._believed else []
        for points in chain(told, subsets(list(shares), self.offer.threshold)):
            secret = combine({point: shares[point] for point in points})
            if secret is not None and check(secret) == wanted:
                self._believed = points
                return secret
        raise RoundAborted("unmask", f"the shares of client {owner} fit no secret of it")

    def _binding(self) -> Binding:
        participants = bit_mask(self._participants or ())
        return Binding(self._context, self.key_list().digest, self.offer.model, participants)

    def _chunks(self) -> Iterator[Ring]:
        start = 0
        for length in chunk_lengths(len(self._total)):
            yield self._total[start : start + length]
            start += length

    def _require_enough(self, count: int, stage: str) -> None:
        if count < self.offer.threshold:
            raise RoundAborted(stage, f"{count} of {self.offer.threshold} clients are left")

    def _check(self, answer: "Answer", is_open: bool, is_fresh: bool) -> None:
        """Refuses answers of other rounds, of other stages, and second ones."""
        same = answer.context == self._context and answer.sender < len(self.offer.cohort)
        refuse_unless(same, Reason.WRONG_ROUND, "an answer of another round")
        refuse_unless(is_open, Reason.WRONG_STAGE, "an answer of another stage")
        if not is_fresh:
            raise Refusal(Reason.REPLAY, "a second answer")


def subsets(points: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Ways to choose some of the points: one that one liar spoils leaves others early on.

    Neighbors in a ring come first, so that each point is missing from some of the first; then all
    ways where there are few, or ways drawn at random.

    Args:
        points: To choose from.
        size: How many.
    """
    count = len(points)
    for start in range(count):
        yield tuple(points[(start + step) % count] for step in range(size))
    if math.comb(count, size) <= MOST_SUBSETS:
        yield from combinations(points, size)
        return
    for _ in range(MOST_SUBSETS):
        yield tuple(SystemRandom().sample(points, size))


Answer = KeyAdvert | ShareBundle | MaskedVector | SurvivorSign | UnmaskShares
