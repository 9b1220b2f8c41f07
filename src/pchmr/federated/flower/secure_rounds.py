"""The server's half of secure aggregation on Flower messages: five stages, then the sum.

Whoever does not answer a stage is out of the round; below the threshold the round is given up and
the model stays. A masked vector is added to the sum as it arrives and dropped. Clients send one
vector a model, so those that were asked for theirs are not asked again before the model changes,
and any two cohorts differ by enough clients. Both are the clients' own rules: the server goes by
them so that it is not refused.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np

from pchmr.config import FederateConfig, SettingError
from pchmr.federated.asked import AskedRecord
from pchmr.federated.digests import model_digest, training_digest
from pchmr.federated.flower.api import Grid, Message, content_bytes
from pchmr.federated.flower.egress import Carry, once
from pchmr.federated.flower.replies import as_they_come, carried, check_envelope
from pchmr.federated.flower.secure_app import RECORD, pack_secret, unpack_secret
from pchmr.federated.flower.tasks import build_task
from pchmr.federated.fold import Sums
from pchmr.federated.hidden import (
    HiddenSum,
    Opened,
    least_survivors,
    opened,
    statistics_units,
)
from pchmr.federated.moments import COUNT, MomentSpec, bounded_squares
from pchmr.federated.outcome import Outcome, SumRow
from pchmr.federated.rounds import apart_cohort
from pchmr.federated.secure import (
    Roster,
    RoundAborted,
    RoundOffer,
    SecurePolicy,
    SecureServer,
    SecureSum,
)
from pchmr.federated.secure.codec import Message as Secret
from pchmr.federated.secure.messages import (
    KeyAdvert,
    MaskedVector,
    ShareBundle,
    SurvivorSign,
    UnmaskShares,
    new_run_name,
)
from pchmr.federated.secure.refusal import Reason, Refusal
from pchmr.federated.task import Task
from pchmr.federated.update import SECURE_SCHEMA, Rejected, UpdateSchema
from pchmr.federated.vector import FlatSpec

Kind = TypeVar("Kind", bound=Secret)
SPENT = (Reason.MODEL_AGAIN.value, Reason.COHORT_OVERLAP.value)
Memory = dict[str, list]


@dataclass
class SecureRounds:
    """What the server remembers across rounds, and how a round goes.

    Attributes:
        config: The run.
        spec: Layout of the model.
        schema: Of tasks.
        hidden: What vectors hold.
        settings: The config as JSON, as clients get it.
        carry: Makes a Flower array of a NumPy array.
        public_keys: Of the clients, by logical id.
        absent: Clients that are never drawn.
        spent: Clients that may send no vector before the model changes.
        cohorts: Those of which vectors may have left.
        record: All that were asked for vectors, on disk.
    """

    config: FederateConfig
    spec: FlatSpec
    schema: UpdateSchema
    hidden: HiddenSum
    settings: str
    carry: Carry
    public_keys: Sequence[bytes]
    absent: frozenset[int] = frozenset()
    spent: set[int] = field(default_factory=set)
    cohorts: list[frozenset[int]] = field(default_factory=list)
    record: AskedRecord = field(default_factory=lambda: AskedRecord(None))
    _run: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._run = new_run_name(self.schema.run)

    def remember(self) -> Memory:
        """What a checkpoint keeps."""
        return {"spent": sorted(self.spent), "cohorts": [sorted(c) for c in self.cohorts]}

    def recall(self, memory: Mapping[str, list], finished: int) -> None:
        """Goes back to what a checkpoint kept, but for vectors that may have left since.

        Args:
            memory: From `remember`.
            finished: Rounds; whoever was asked in the next one was asked for the model at hand.
        """
        self.record.read()
        self.spent = set(memory["spent"])
        self.cohorts = [frozenset(cohort) for cohort in memory["cohorts"]]
        for asked in self.record.entries:
            self._met(frozenset(asked.cohort))
            if asked.round == finished + 1:
                self.spent |= set(asked.clients)

    def model_changed(self) -> None:
        """Every client may send a vector again."""
        self.spent.clear()

    def draw(self, number: int, attempt: int) -> list[int]:
        """The cohort of a round.

        Raises:
            SettingError: No cohort may send a vector for the model, in this round or a later one.
        """
        found = apart_cohort(
            self.config.seed,
            number,
            self.config.num_clients,
            self.config.clients_per_round,
            attempt=attempt,
            spent=self.spent | self.absent,
            earlier=self.cohorts,
            least=SecurePolicy().least_difference,
        )
        if not found and not attempt:
            raise SettingError(self._stuck(number))
        return found

    def _stuck(self, number: int) -> str:
        size, total = self.config.clients_per_round, self.config.num_clients
        return (
            f"round {number} has no cohort: {len(self.spent)} of {total} clients were asked for a "
            f"vector for this very model in a round that was given up, and a client sends one for "
            f"a model, ever; {size} others are needed. The {number - 1} rounds before it stay: "
            f"--resume --num-rounds {max(number - 1, 1)} scores them. To withstand such rounds "
            f"start anew with twice as many --num-clients as --clients-per-round"
        )

    def collect(
        self, grid: Grid, nodes: list[int], task: Task, attempt: int, outcome: Outcome
    ) -> Sums | None:
        """Carries a round out; None if it was given up.

        Args:
            grid: Carries messages.
            nodes: Ids of nodes.
            task: What the clients are to do; whose client does not count.
            attempt: Cohorts that this round already lost.
            outcome: Of the round; its cohort is asked.
        """
        offer = self._offer(task, attempt, outcome.cohort)
        talk = _Talk(self, grid, nodes, task, offer, outcome)
        try:
            sums = talk.run()
        except RoundAborted as gone:
            outcome.given_up.append(gone.stage)
            return None
        survivors = len(sums.survivors)
        found = opened(offer.settings, sums.values, survivors)
        outcome.sum = SumRow(
            survivors=survivors,
            threshold=offer.threshold,
            num_samples=0 if self.hidden.is_noised else round(found.totals.samples),
            mean_loss=found.loss_sum / found.num_told if found.num_told else None,
        )
        if found.totals.samples < 1 or found.totals.weight <= 0:
            return None
        return self._sums(found, task)

    def _sums(self, found: Opened, task: Task) -> Sums:
        buffers = None
        if found.drift is not None:
            units = statistics_units(self.spec, task.buffers)
            whole = np.float32(found.totals.samples)
            buffers = task.buffers * whole + units * np.float32(found.most) * found.drift
            places = self.spec.variances
            buffers[places] = np.maximum(buffers[places], 0)
        moments = dict(found.moments)
        if moments:
            share = np.float32(found.unit / found.totals.weight)
            means = {name: total * share for name, total in moments.items()}
            steps = found.totals.sample_steps / found.totals.samples
            count = float(task.moments[COUNT][0]) + steps
            bounded_squares(MomentSpec.of(self.spec, self.config), means, count)
            moments = {name: mean / share for name, mean in means.items()}
        return Sums(found.totals, found.delta, found.unit, buffers, found.control, moments)

    def _offer(self, task: Task, attempt: int, clients: Collection[int]) -> RoundOffer:
        digest = model_digest(task.vectors)
        training = training_digest(self.settings, self.schema.fingerprint)
        return RoundOffer(
            run=self._run,
            round=task.round,
            attempt=attempt,
            threshold=least_survivors(self.config),
            model=digest,
            roster=Roster.of(self.public_keys).fingerprint,
            cohort=tuple(sorted(self.public_keys[client] for client in clients)),
            settings=self.hidden.settings(task.round, training),
        )

    def asked_for_vectors(
        self, number: int, clients: Collection[int], cohort: Collection[int]
    ) -> None:
        """Notes that vectors may leave, before anyone is asked for one."""
        self.record.note(number, cohort, clients)
        self.spent |= set(clients)
        self._met(frozenset(cohort))

    def _met(self, cohort: frozenset[int]) -> None:
        if cohort not in self.cohorts:
            self.cohorts.append(cohort)


class _Talk:
    """One round: who is still there, and what they are told."""

    def __init__(
        self,
        rounds: SecureRounds,
        grid: Grid,
        nodes: list[int],
        task: Task,
        offer: RoundOffer,
        outcome: Outcome,
    ) -> None:
        self._rounds, self._grid, self._nodes = rounds, grid, nodes
        self._task, self._offer, self._outcome = task, offer, outcome
        self._server = SecureServer(offer)
        keys = {public: client for client, public in enumerate(rounds.public_keys)}
        self._clients = [keys[public] for public in offer.cohort]  # by number in the cohort
        self._alive = set(range(len(self._clients)))

    def run(self) -> SecureSum:
        """The five stages.

        Raises:
            RoundAborted: Too few clients are left.
        """
        server, offer = self._server, self._offer.encode()
        self._stage("query.sa_keys", lambda i: offer, KeyAdvert, server.take_advert)
        keys = server.key_list().encode()
        self._stage("query.sa_shares", lambda i: keys, ShareBundle, server.take_shares)
        server.close_shares()
        asked, cohort = self._who(self._alive), self._who(self._all)
        self._rounds.asked_for_vectors(self._offer.round, asked, cohort)
        self._stage(
            "train.sa_masked",
            lambda i: server.delivery(i).encode(),
            MaskedVector,
            server.take_vector,
        )
        found = server.survivor_list().encode()
        self._stage("query.sa_consistency", lambda i: found, SurvivorSign, server.take_signature)
        request = server.unmask_request().encode()
        self._stage("query.sa_unmask", lambda i: request, UnmaskShares, server.take_unmasking)
        return server.finish()

    @property
    def _all(self) -> range:
        return range(len(self._clients))

    def _who(self, members: Collection[int]) -> list[int]:
        return [self._clients[member] for member in members]

    def _stage(
        self,
        name: str,
        told: Callable[[int], bytes],
        kind: type[Kind],
        take: Callable[[Kind], None],
    ) -> None:
        """Asks those who are left, and keeps those whose answers hold."""
        asked = sorted(self._alive)
        carry = once(self._rounds.carry)
        messages = [self._message(name, member, told(member), carry) for member in asked]
        self._outcome.bytes_down += sum(content_bytes(m.content) for m in messages)
        wait, left = self._rounds.config.server_options.deadline_seconds, set()
        for arrival in as_they_come(messages, carried(self._grid, messages, wait)):
            member = None if arrival.position is None else asked[arrival.position]
            try:
                if arrival.reply is None or member is None or arrival.reason:
                    raise Rejected(arrival.reason or "no_reply")
                check_envelope(messages[cast(int, arrival.position)], arrival.reply)
                take(self._read(kind, member, arrival.reply))
            except Rejected as rejected:
                self._refuse(member, rejected.reason)
            except Refusal as refusal:
                self._refuse(member, refusal.reason.value)
            except Exception:  # whatever a client sends, the round goes on
                self._refuse(member, "schema")
            else:
                left.add(member)
        self._alive &= left

    def _refuse(self, member: int | None, reason: str) -> None:
        client = -1 if member is None else self._clients[member]
        self._outcome.refuse(client, reason)
        if reason in SPENT:  # it would refuse again until the model changes; no vector left
            self._rounds.spent.add(client)

    def _message(self, name: str, member: int, data: bytes, carry: Carry) -> Message:
        rounds, client, task = self._rounds, self._clients[member], self._task
        content = build_task(
            rounds.schema,
            replace(task, client_id=client),
            rounds.settings,
            carry,
            with_model=name.startswith("train"),
        )
        content[RECORD] = pack_secret(data, {})[RECORD]
        node = self._nodes[client % len(self._nodes)]
        return Message(content, node, name, group_id=str(task.round))

    def _read(self, kind: type[Kind], member: int, reply: Message) -> Kind:
        self._outcome.bytes_up += content_bytes(reply.content)
        echo = self._rounds.schema.echo(self._task.round, self._clients[member])
        found = kind.decode(unpack_secret(reply.content, echo | {"schema": SECURE_SCHEMA}))
        if vars(found)["sender"] != member:
            raise Rejected("unknown_sender")
        return found
