"""A whole round in one process, every message through its bytes: for tests, self-test, benchmark.

Nothing here keeps a secret from anyone: clients and server share the process. The real exchange
carries the same messages.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from pchmr.federated.secure.client import SecureClient
from pchmr.federated.secure.codec import Message
from pchmr.federated.secure.encoding import Values
from pchmr.federated.secure.identity import Identity, Roster
from pchmr.federated.secure.messages import Group, RoundOffer, Settings
from pchmr.federated.secure.policy import SecurePolicy, threshold_of
from pchmr.federated.secure.refusal import Reason, Refusal
from pchmr.federated.secure.server import SecureServer, SecureSum
from pchmr.federated.secure.state import ClientState

STAGES = ("keys", "shares", "masked", "consistency", "unmask")
TRAINING = bytes(range(32))

M = TypeVar("M", bound=Message)

"""Changes what the server sends: stage, client's number, message; gives the message."""
Lie = Callable[[str, int, Message], Message]


def honest(stage: str, client: int, message: Message) -> Message:
    """Sends what the server meant to send."""
    return message


def settings_of(*groups: Group, bits: int = 20, weight_cap: float = 1.0) -> Settings:
    """Settings of a rehearsal."""
    return Settings(bits, weight_cap, TRAINING, groups)


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
    sent: list[Message] = field(default_factory=list)
    _states: dict[int, ClientState] = field(default_factory=dict)

    def run(self) -> SecureSum:
        """Plays the round; a client that refuses is gone.

        Raises:
            RoundAborted: Too few clients were left.
        """
        server, alive = SecureServer(self.offer), set(range(len(self.clients)))
        for stage in STAGES:
            alive -= set(self.drops.get(stage, ()))
            for client in sorted(alive):
                try:
                    self._exchange(server, stage, client)
                except Refusal as refusal:
                    self.refusals[client] = refusal.reason
            alive -= set(self.refusals)
        return server.finish()

    def _exchange(self, server: SecureServer, stage: str, client: int) -> None:
        getattr(self, f"_{stage}")(server, client)

    def _told(self, stage: str, client: int, message: M) -> M:
        """What a client reads of the server's message."""
        return type(message).decode(self.lie(stage, client, message).encode())

    def _heard(self, message: M) -> M:
        """What the server reads of a client's message."""
        self.sent.append(message)
        return type(message).decode(message.encode())

    def _keys(self, server: SecureServer, client: int) -> None:
        offer = self._told("keys", client, self.offer)
        advert, self._states[client] = self.clients[client].answer_offer(offer)
        server.take_advert(self._heard(advert))

    def _shares(self, server: SecureServer, client: int) -> None:
        keys = self._told("shares", client, server.key_list())
        bundle, state = self.clients[client].answer_keys(self._states[client], keys)
        self._states[client] = ClientState.decode(state.encode())
        server.take_shares(self._heard(bundle))

    def _masked(self, server: SecureServer, client: int) -> None:
        delivery = self._told("masked", client, server.delivery(client))
        player, model = self.clients[client], self.model.get(client, self.offer.model)
        state = player.receive(self._states[client], delivery, model)
        weight = self.weights[client] if self.weights else 1.0
        values, residuals = self.values[client], self.residuals.get(client)
        vector, state = player.mask(state, values, weight, residuals)
        self._states[client] = ClientState.decode(state.encode())
        server.take_vector(self._heard(vector))

    def _consistency(self, server: SecureServer, client: int) -> None:
        found = self._told("consistency", client, server.survivor_list())
        answer, state = self.clients[client].sign(self._states[client], found)
        self._states[client] = ClientState.decode(state.encode())
        server.take_signature(self._heard(answer))

    def _unmask(self, server: SecureServer, client: int) -> None:
        request = self._told("unmask", client, server.unmask_request())
        answer = self.clients[client].unmask(self._states[client], request)
        server.take_unmasking(self._heard(answer))


def same_step(num_values: int, seed: int, num_clients: int, bound: float) -> list[list[Values]]:
    """Random values within a range, one group a client."""
    random = np.random.default_rng(seed)
    drawn = random.uniform(-bound, bound, (num_clients, num_values)).astype(np.float32)
    return [[row] for row in drawn]
