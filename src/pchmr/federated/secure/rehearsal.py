"""A whole round in one process, every message through its bytes: for tests, self-test, benchmark.

Nothing here keeps a secret from anyone: clients and server share the process. The real exchange
carries the same messages.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pchmr.federated.secure.client import SecureClient
from pchmr.federated.secure.codec import Message
from pchmr.federated.secure.encoding import Values
from pchmr.federated.secure.identity import Identity, Roster
from pchmr.federated.secure.messages import (
    Group,
    KeyList,
    RoundOffer,
    Settings,
    ShareDelivery,
    SurvivorList,
    UnmaskRequest,
)
from pchmr.federated.secure.policy import SecurePolicy, threshold_of
from pchmr.federated.secure.refusal import Reason, Refusal
from pchmr.federated.secure.server import SecureServer, SecureSum
from pchmr.federated.secure.state import ClientState

STAGES = ("keys", "shares", "masked", "consistency", "unmask")
TRAINING = bytes(range(32))

"""Changes what the server sends: stage, client's number, message; gives the message."""
Lie = Callable[[str, int, Message], Message]


def honest(stage: str, client: int, message: Message) -> Message:
    """Sends what the server meant to send."""
    return message


def settings_of(
    *groups: Group, bits: int = 20, weight_cap: float = 1.0, noise: float = 0.0
) -> Settings:
    """Settings of a rehearsal."""
    return Settings(bits, weight_cap, noise, TRAINING, groups)


def make_clients(num_clients: int, policy: SecurePolicy | None = None) -> list[SecureClient]:
    """New clients that know each other, in the order of their keys."""
    identities = sorted((Identity.generate() for _ in range(num_clients)), key=lambda i: i.public)
    roster = Roster(tuple(identity.public for identity in identities))
    policy = policy or SecurePolicy()
    return [SecureClient(identity, roster, TRAINING, policy) for identity in identities]


def make_offer(
    clients: Sequence[SecureClient], settings: Settings, round_number: int = 1, **changes: object
) -> RoundOffer:
    """An offer of a fresh model to all of these clients, with some fields changed."""
    offer = RoundOffer(
        run=bytes(16),
        round=round_number,
        attempt=0,
        threshold=threshold_of(len(clients)),
        model=secrets.token_bytes(32),
        roster=clients[0].roster.fingerprint,
        cohort=tuple(client.identity.public for client in clients),
        settings=settings,
    )
    return replace(offer, **changes)  # type: ignore[arg-type]


@dataclass
class Rehearsal:
    """One round of real clients and a server that may lie.

    Attributes:
        offer: What the server meant to offer.
        clients: The cohort in its order.
        values: Each client's groups.
        weights: Each client's weight; all 1 if empty.
        drops: By stage, clients that are gone from then on.
        lie: Changes the server's messages.
        model: By client, digests of models that arrived in place of the announced one.
        residuals: By client, error feedback.
        refusals: By client, why it refused.
        set_aside: By client, why the server did not take its answer.
        sent: All that clients sent.
        told: By stage and client, what the server told last.
        lied_to: Clients that were told something else than the server meant to.
    """

    offer: RoundOffer
    clients: Sequence[SecureClient]
    values: Sequence[Sequence[Values]]
    weights: Sequence[float] = ()
    drops: Mapping[str, Collection[int]] = field(default_factory=dict)
    lie: Lie = honest
    model: Mapping[int, bytes] = field(default_factory=dict)
    residuals: Mapping[int, list[Values]] = field(default_factory=dict)
    refusals: dict[int, Reason] = field(default_factory=dict)
    set_aside: dict[int, Reason] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    told: dict[tuple[str, int], Message] = field(default_factory=dict)
    lied_to: set[int] = field(default_factory=set)
    states: dict[int, ClientState] = field(default_factory=dict)

    def run(self) -> SecureSum:
        """Plays the round; a client that refuses, or whose answer is set aside, is gone.

        Raises:
            RoundAborted: Too few clients were left.
        """
        server, alive = SecureServer(self.offer), set(range(len(self.clients)))
        for stage in STAGES:
            alive -= set(self.drops.get(stage, ()))
            for client in sorted(alive):
                self._exchange(server, stage, client)
            alive -= set(self.refusals) | set(self.set_aside)
        return server.finish()

    def _exchange(self, server: SecureServer, stage: str, client: int) -> None:
        told, answer, take = {
            "keys": (lambda: self.offer, self._keys, server.take_advert),
            "shares": (server.key_list, self._shares, server.take_shares),
            "masked": (lambda: server.delivery(client), self._masked, server.take_vector),
            "consistency": (server.survivor_list, self._consistency, server.take_signature),
            "unmask": (server.unmask_request, self._unmask, server.take_unmasking),
        }[stage]
        message = self._told(stage, client, told())
        try:
            heard = answer(client, message)
        except Refusal as refusal:
            self.refusals[client] = refusal.reason
            return
        self.sent.append(heard)
        try:
            take(type(heard).decode(heard.encode()))
        except Refusal as refusal:
            self.set_aside[client] = refusal.reason

    def _told(self, stage: str, client: int, message: Message) -> Any:
        """What a client reads of the server's message."""
        told = self.lie(stage, client, message)
        self.told[stage, client] = told
        if told != message:
            self.lied_to.add(client)
        return type(message).decode(told.encode())

    def _keep(self, client: int, state: ClientState) -> None:
        self.states[client] = ClientState.decode(state.encode())

    def _keys(self, client: int, offer: RoundOffer) -> Message:
        advert, state = self.clients[client].answer_offer(offer)
        self._keep(client, state)
        return advert

    def _shares(self, client: int, keys: KeyList) -> Message:
        bundle, state = self.clients[client].answer_keys(self.states[client], keys)
        self._keep(client, state)
        return bundle

    def _masked(self, client: int, delivery: ShareDelivery) -> Message:
        player, model = self.clients[client], self.model.get(client, self.offer.model)
        state = player.receive(self.states[client], delivery, model)
        weight = self.weights[client] if self.weights else 1.0
        values, residuals = self.values[client], self.residuals.get(client)
        vector, state = player.mask(state, values, weight, residuals)
        self._keep(client, state)
        return vector

    def _consistency(self, client: int, found: SurvivorList) -> Message:
        answer, state = self.clients[client].sign(self.states[client], found)
        self._keep(client, state)
        return answer

    def _unmask(self, client: int, request: UnmaskRequest) -> Message:
        return self.clients[client].unmask(self.states[client], request)
