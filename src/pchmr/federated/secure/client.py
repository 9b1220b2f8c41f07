"""The client's half of a round: five messages in, five answers out, no framework.

After Bonawitz et al. 2017 (CCS, the variant against active adversaries), with the changes that
`docs/privacy.md` states: keys, shares and masks are bound to the whole offer and to the model that
arrived; a hash of the own seed is signed, so that a wrong reconstruction is seen. Each method takes
the state of before and returns an answer and the state of after; any `Refusal` ends the round for
this client, whose state must then be dropped. What rests on disk is `state.py`'s.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pchmr.federated.secure.encoding import Values, check_values, encode
from pchmr.federated.secure.identity import Identity, Roster, is_signed
from pchmr.federated.secure.masks import (
    Binding,
    Mask,
    agree,
    apply_masks,
    new_key,
    pair_mask,
    public_key,
    scratch,
    seal,
    self_mask,
    unseal,
)
from pchmr.federated.secure.messages import (
    KeyAdvert,
    KeyList,
    MaskedVector,
    OneShare,
    RoundOffer,
    SealedShare,
    ShareBundle,
    ShareDelivery,
    SurvivorList,
    SurvivorSign,
    UnmaskRequest,
    UnmaskShares,
    members_of,
)
from pchmr.federated.secure.packing import pack, packed_size
from pchmr.federated.secure.policy import Ledger, SecurePolicy
from pchmr.federated.secure.refusal import Reason, Refusal, refuse_unless
from pchmr.federated.secure.shamir import SHARE_BYTES, split
from pchmr.federated.secure.state import NO_SECRET, ClientState, HeldShares

KEYS_PURPOSE, SURVIVORS_PURPOSE = b"keys    ", b"survivor"


@dataclass
class SecureClient:
    """A client, over all rounds.

    Attributes:
        identity: Its signing key.
        roster: All that may take part, pinned.
        training: Digest of the config and layout that it goes by: those that came with the message
            at hand, so that a round ends with the settings that it began with.
        policy: What it asks of a round.
        ledger: What it remembers.
        write_ledger: Puts the ledger on disk; called before an answer leaves.
    """

    identity: Identity
    roster: Roster
    training: bytes
    policy: SecurePolicy = field(default_factory=SecurePolicy)
    ledger: Ledger = field(default_factory=Ledger)
    write_ledger: Callable[[Ledger], None] = lambda ledger: None

    def answer_offer(self, offer: RoundOffer) -> tuple[KeyAdvert, ClientState]:
        """Stage 0: fresh keys, signed.

        Raises:
            Refusal: The policy, the roster or the ledger stands against the round.
        """
        self._check_offer(offer)
        self.ledger.note_offer(offer)
        self.write_ledger(self.ledger)
        seal_key, mask_key, seed = new_key(), new_key(), os.urandom(32)
        own = offer.cohort.index(self.identity.public)
        advert = KeyAdvert(
            offer.context,
            own,
            public_key(seal_key),
            public_key(mask_key),
            commitment(offer.context, own, seed),
            bytes(64),
        )
        signature = self.identity.sign(KEYS_PURPOSE, advert.signed_part)
        state = ClientState(0, offer, own, seal_key, mask_key, seed, KeyList(()), (), 0)
        return signed(advert, signature), state

    def _check_offer(self, offer: RoundOffer) -> None:
        self.policy.check_offer(offer)
        same = offer.roster == self.roster.fingerprint
        refuse_unless(same, Reason.FOREIGN_ROSTER, "the server's roster is not the pinned one")
        cohort = Roster(offer.cohort)
        known = set(cohort.keys) <= set(self.roster.keys)
        refuse_unless(known, Reason.FOREIGN_ROSTER, "the cohort holds a stranger")
        invited = self.identity.public in cohort.keys
        refuse_unless(invited, Reason.FOREIGN_ROSTER, "the client is not of the cohort")
        self._check_training(offer)
        self.ledger.check_offer(offer, self.policy)

    def _check_training(self, offer: RoundOffer) -> None:
        agreed = offer.settings.training == self.training
        refuse_unless(agreed, Reason.WRONG_CONFIG, "the round is of another config or model layout")

    def _check_stage(self, state: ClientState, stage: str, context: bytes) -> None:
        """Refuses what is not the round's next message, and other settings than it began with."""
        state.require(stage, context)
        self._check_training(state.offer)

    def answer_keys(self, state: ClientState, keys: KeyList) -> tuple[ShareBundle, ClientState]:
        """Stage 1: shares of the own seed and mask key, each sealed to its receiver.

        Raises:
            Refusal: A key is unsigned, doubled or changed, or too few are left.
        """
        self._check_stage(state, "offered", state.offer.context)
        check_keys(state, keys)
        state = state.at("shared", keys=keys)
        own, threshold = state.own, state.offer.threshold
        points = [advert.sender + 1 for advert in keys.adverts]
        seeds = split(state.seed, points, threshold)
        mask_keys = split(state.mask_key, points, threshold)
        binding, shares = state.sealing_binding(), []
        for advert in keys.adverts:
            if advert.sender != own:
                info = binding.info(b"seal", own, advert.sender)
                key = agree(state.seal_key, advert.seal_key, info)
                plain = seeds[advert.sender + 1] + mask_keys[advert.sender + 1]
                shares.append(SealedShare(own, advert.sender, seal(key, plain, info)))
        kept = HeldShares(own, seeds[own + 1], mask_keys[own + 1])
        return ShareBundle(state.offer.context, own, tuple(shares)), state.at(
            "shared", held=(kept,)
        )

    def receive(self, state: ClientState, delivery: ShareDelivery, model: bytes) -> ClientState:
        """Stage 2, before training: opens the shares and compares the model with the offer's.

        Args:
            state: After `answer_keys`.
            delivery: Shares of the other participants.
            model: SHA-256 of the global model that arrived with them.

        Raises:
            Refusal: A share does not open, too few are left, or the model is another one.
        """
        self._check_stage(state, "shared", delivery.context)
        announced = model == state.offer.model
        refuse_unless(announced, Reason.OTHER_MODEL, "the model that came is not the announced one")
        held = [*state.held, *(self._open(state, share) for share in delivery.shares)]
        owners = [shares.owner for shares in held]
        refuse_unless(len(set(owners)) == len(owners), Reason.DOUBLED, "one client's shares twice")
        enough = len(held) >= self._least(state.offer)
        refuse_unless(enough, Reason.TOO_FEW, f"{len(held)} clients shared their secrets")
        held.sort(key=lambda shares: shares.owner)
        return state.at("received", held=tuple(held), seal_key=NO_SECRET)

    def _open(self, state: ClientState, share: SealedShare) -> HeldShares:
        advert = next((a for a in state.keys.adverts if a.sender == share.source), None)
        fits = share.target == state.own != share.source
        if advert is None or not fits:
            raise Refusal(Reason.BAD_SHARE, "a share is meant for another client")
        info = state.sealing_binding().info(b"seal", share.source, state.own)
        key = agree(state.seal_key, advert.seal_key, info)
        plain = unseal(key, share.sealed, info)
        return HeldShares(share.source, plain[:SHARE_BYTES], plain[SHARE_BYTES:])

    def _least(self, offer: RoundOffer) -> int:
        return max(offer.threshold, self.policy.least_threshold)

    def mask(
        self,
        state: ClientState,
        values: Sequence[Values],
        weight: float,
        residuals: Sequence[Values | None] | None = None,
    ) -> tuple[MaskedVector, ClientState]:
        """Stage 2, after training: the vector under its masks.

        Args:
            state: After `receive`.
            values: One flat array a group of the settings.
            weight: Of this client.
            residuals: Error feedback, changed in place; see `encode`.

        Raises:
            Refusal: A value is not finite or a size differs, or this model had its vector.
        """
        self._check_stage(state, "received", state.offer.context)
        settings = state.offer.settings
        check_values(settings, values, weight)
        size = packed_size(settings.num_elements, settings.bits)
        packed, start = memoryview(bytearray(size)), 0
        masks, buffer = self._masks(state), scratch()
        for chunk in encode(settings, len(state.offer.cohort), values, weight, residuals):
            apply_masks(chunk, masks, buffer)
            start += pack(chunk, settings.bits, packed[start:])
        self.ledger.note_vector(state.offer)
        self.write_ledger(self.ledger)
        after = state.at("masked", mask_key=NO_SECRET, seed=NO_SECRET)
        return MaskedVector(state.offer.context, state.own, packed), after

    def _masks(self, state: ClientState) -> list[Mask]:
        binding = state.mask_binding()
        peers = [a for a in state.keys.adverts if state.participants >> a.sender & 1]
        pairs = [
            pair_mask(state.mask_key, peer.mask_key, state.own, peer.sender, binding)
            for peer in peers
            if peer.sender != state.own
        ]
        return [self_mask(state.seed, state.own, binding), *pairs]

    def sign(self, state: ClientState, found: SurvivorList) -> tuple[SurvivorSign, ClientState]:
        """Stage 3: a signature on the survivors, once.

        Raises:
            Refusal: The list lacks this client, holds strangers, is too short, or is too near to an
                earlier one for the policy.
        """
        self._check_stage(state, "masked", found.context)
        survivors = found.survivors
        among = survivors & ~state.participants == 0 and survivors >> state.own & 1
        refuse_unless(bool(among), Reason.FALSE_SURVIVORS, "the survivors are not participants")
        enough = survivors.bit_count() >= self._least(state.offer)
        refuse_unless(enough, Reason.TOO_FEW, f"{survivors.bit_count()} vectors arrived")
        named = frozenset(state.offer.cohort[member] for member in members_of(survivors))
        self.ledger.note_survivors(named, self.policy)
        self.write_ledger(self.ledger)
        statement = survivors_statement(state.mask_binding(), survivors)
        signature = self.identity.sign(SURVIVORS_PURPOSE, statement)
        answer = SurvivorSign(state.offer.context, state.own, signature)
        return answer, state.at("signed", signed=survivors)

    def unmask(self, state: ClientState, request: UnmaskRequest) -> UnmaskShares:
        """Stage 4: one share of each participant, and the end of the round.

        A survivor's seed or a lost client's mask key, never both of one client.

        Raises:
            Refusal: The lists overlap or differ from what was signed, or too few signed them.
        """
        self._check_stage(state, "signed", request.context)
        check_unmasking(state, request)
        self.ledger.note_unmasking(request.context)
        self.write_ledger(self.ledger)
        shares = tuple(
            OneShare(h.owner, h.seed if request.survivors >> h.owner & 1 else h.mask_key)
            for h in state.held
        )
        return UnmaskShares(request.context, state.own, shares)


def commitment(context: bytes, owner: int, seed: bytes) -> bytes:
    """A hash that hides a random seed and fits no other."""
    return hashlib.sha256(b"seed" + context + bytes([owner]) + seed).digest()


def signed(advert: KeyAdvert, signature: bytes) -> KeyAdvert:
    """The advert with its signature."""
    keys = advert.seal_key, advert.mask_key
    return KeyAdvert(advert.context, advert.sender, *keys, advert.commitment, signature)


def is_advert_signed(offer: RoundOffer, advert: KeyAdvert) -> bool:
    """Whether the member of the cohort in whose name the keys come signed them for this round."""
    known = advert.context == offer.context and advert.sender < len(offer.cohort)
    return known and is_signed(
        offer.cohort[advert.sender], KEYS_PURPOSE, advert.signed_part, advert.signature
    )


def check_keys(state: ClientState, keys: KeyList) -> None:
    """Refuses a list of keys that is not whole, in order and signed, or lacks the own keys.

    Raises:
        Refusal: It is not.
    """
    state.require("offered", state.offer.context)
    offer, senders = state.offer, [advert.sender for advert in keys.adverts]
    in_order = senders == sorted(set(senders))
    refuse_unless(in_order, Reason.DOUBLED, "a client's keys stand twice or out of order")
    enough = len(senders) >= offer.threshold
    refuse_unless(enough, Reason.TOO_FEW, f"{len(senders)} clients sent keys")
    signs = all(is_advert_signed(offer, advert) for advert in keys.adverts)
    refuse_unless(signs, Reason.BAD_SIGNATURE, "keys are not signed by a client of this round")
    distinct = {key for advert in keys.adverts for key in (advert.seal_key, advert.mask_key)}
    refuse_unless(len(distinct) == 2 * len(senders), Reason.DOUBLED, "two clients sent one key")
    own = next((a for a in keys.adverts if a.sender == state.own), None)
    mine = own is not None and own.mask_key == public_key(state.mask_key)
    refuse_unless(mine, Reason.BAD_SIGNATURE, "the client's own keys are missing or changed")


def survivors_statement(binding: Binding, survivors: int) -> bytes:
    """What is signed at stage 3: round, keys, model, participants, survivors."""
    return binding.info(b"alive") + survivors.to_bytes(8, "big")


def check_unmasking(state: ClientState, request: UnmaskRequest) -> None:
    """Refuses lists that were not signed by t participants exactly so.

    Raises:
        Refusal: They were not.
    """
    apart = request.survivors & request.lost == 0
    refuse_unless(apart, Reason.FALSE_SURVIVORS, "a client is named as survivor and as lost")
    whole = request.survivors | request.lost == state.participants
    same = request.survivors == state.signed and whole
    refuse_unless(same, Reason.FALSE_SURVIVORS, "the lists are not those that were signed")
    statement = survivors_statement(state.mask_binding(), request.survivors)
    signers = {
        s.sender
        for s in request.signatures
        if s.sender in members_of(request.survivors)
        and s.context == state.offer.context
        and is_signed(state.offer.cohort[s.sender], SURVIVORS_PURPOSE, statement, s.signature)
    }
    enough = len(signers) >= state.offer.threshold
    refuse_unless(enough, Reason.BAD_SIGNATURE, f"{len(signers)} clients signed these survivors")
