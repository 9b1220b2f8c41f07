"""A client's half of secure aggregation on Flower messages: one handler a stage.

Flower may start a process for each message, so a handler finds the client's secrets sealed on disk
and leaves them there; they are taken from disk before they are used, so whatever goes wrong ends
the round for this client. What is computed is in `secure/client.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from pchmr.federated.client_state import ClientStates, fitting
from pchmr.federated.digests import model_digest, training_digest
from pchmr.federated.flower.api import ConfigRecord, Message, RecordDict
from pchmr.federated.flower.egress import Carry, Echo
from pchmr.federated.flower.tasks import Resident, TaskMessage, is_plain
from pchmr.federated.policy import Guard
from pchmr.federated.secure import RoundOffer, SecureClient
from pchmr.federated.secure.codec import Message as Secret
from pchmr.federated.secure.device import SecureDevice
from pchmr.federated.secure.messages import (
    KeyList,
    ShareDelivery,
    SurvivorList,
    UnmaskRequest,
    run_of,
)
from pchmr.federated.secure.refusal import Reason, refuse_unless
from pchmr.federated.secure.state import ClientState
from pchmr.federated.task import Answering
from pchmr.federated.update import SECURE_SCHEMA, Rejected

RESIDUALS = "residuals"
BYTES, RECORD = "message", "secure"
Kind = TypeVar("Kind", bound=Secret)
Answer = tuple[Secret, ClientState | None]
"""What is sent, and what the client must know at the next stage."""


@dataclass(frozen=True)
class Visit:
    """A message of a stage, at the client that it is for."""

    asked: TaskMessage
    worker: Answering
    guard: Guard
    device: SecureDevice
    node_id: int
    data: bytes

    @classmethod
    def of(cls, resident: Resident, message: Message) -> "Visit":
        """Finds the client of a message.

        Raises:
            Rejected: The message is none of a stage, or the client is not this device's.
        """
        found = message.content.get(RECORD)
        if not is_plain(message) or not isinstance(found, ConfigRecord):
            raise Rejected("task_schema")
        data = dict(found).get(BYTES)
        if type(data) is not bytes:
            raise Rejected("task_schema")
        asked, node_id = TaskMessage.of(message.content), message.metadata.dst_node_id
        worker, guard = resident(asked.settings), resident.guard
        number, client_id = int(asked.echo["round"]), int(asked.echo["client_id"])
        errand = worker.errand(int(asked.echo["run"]), number, client_id, node_id)
        guard.recognize(errand, worker.is_here(client_id))
        same = asked.echo["fingerprint"] == errand.fingerprint
        if not same or not worker.config.privacy_options.is_secure:
            raise Rejected("task_schema")
        device = SecureDevice(guard.ledger.folder, client_id)
        return cls(asked, worker, guard, device, node_id, data)

    @cached_property
    def client(self) -> SecureClient:
        """The client, which goes by the settings that came with the message.

        Raises:
            Refusal: It has no key, ledger or pinned roster.
        """
        training = training_digest(self.asked.settings, str(self.asked.echo["fingerprint"]))
        return self.device.client(self.guard.policy.secure, training)

    def agree(self, offer: RoundOffer) -> None:
        """Refuses a message whose run or round is not the offer's.

        Raises:
            Refusal: One is not.
        """
        run, number = int(self.asked.echo["run"]), int(self.asked.echo["round"])
        same = run_of(offer.run) == run and offer.round == number
        refuse_unless(same, Reason.WRONG_ROUND, "the task is of another round than the offer")

    def take(self) -> ClientState:
        """What the client knows of the round, gone from disk.

        Raises:
            Refusal: Nothing, or the message is of another round.
        """
        state = self.device.open_round().take()
        self.agree(state.offer)
        return state

    def read(self, kind: type[Kind]) -> Kind:
        """The protocol message that came."""
        return kind.decode(self.data)


def keys(visit: Visit) -> Answer:
    """Stage 0: a device that would rather not train says so before anybody counts on it."""
    visit.guard.check_occasion()
    offer = visit.read(RoundOffer)
    visit.agree(offer)
    return visit.client.answer_offer(offer)


def shares(visit: Visit) -> Answer:
    """Stage 1."""
    state = visit.take()
    return visit.client.answer_keys(state, visit.read(KeyList))


def masked(visit: Visit) -> Answer:
    """Stage 2: compares models and settings, trains if the device's policy allows it, and masks."""
    from pchmr.federated.hidden import check_encoding, statistics_units, vector_of, weight_of

    state, worker, echo = visit.take(), visit.worker, visit.asked.echo
    schema = worker.schema(int(echo["run"]))
    task = visit.asked.task(schema)
    state = visit.client.receive(state, visit.read(ShareDelivery), model_digest(task.vectors))
    most = visit.client.policy.most_samples
    num_samples = worker.samples_of(task.client_id) or 0
    check_encoding(worker.config, schema.sizes, state.offer, num_samples, most)
    update = worker.answer(task, visit.guard, run=int(echo["run"]), node_id=visit.node_id)
    settings, noised = state.offer.settings, worker.config.privacy_options.is_noised
    drift = None
    if "buffers" in update.arrays:
        drift = update.arrays["buffers"] - task.buffers
        drift /= statistics_units(worker.spec, task.buffers)
    weight = weight_of(worker.config, update.num_samples)
    vector = vector_of(settings, update, weight, drift, noised=noised)
    if noised:
        return visit.client.mask(state, vector.values, vector.weight)
    place, key = visit.guard.ledger.folder / RESIDUALS, visit.device.state_key()
    kept = ClientStates.of_run(place, schema.run, key)
    sizes = {"delta": len(vector.values[0])}
    left = fitting(kept.load(task.client_id, task.round), sizes).get("delta")
    left = vector.values[0] * 0 if left is None else left
    residuals = [left, *(None for _ in vector.values[1:])]
    answer = visit.client.mask(state, vector.values, vector.weight, residuals)
    kept.save(task.client_id, task.round, {"delta": left})
    return answer


def consistency(visit: Visit) -> Answer:
    """Stage 3."""
    state = visit.take()
    return visit.client.sign(state, visit.read(SurvivorList))


def unmask(visit: Visit) -> Answer:
    """Stage 4, the last: nothing of the round is kept."""
    state = visit.take()
    return visit.client.unmask(state, visit.read(UnmaskRequest)), None


# Message types of Flower, and what answers them.
STAGES: dict[str, Callable[[Visit], Answer]] = {
    "query.sa_keys": keys,
    "query.sa_shares": shares,
    "train.sa_masked": masked,
    "query.sa_consistency": consistency,
    "query.sa_unmask": unmask,
}


def answer(
    stage: Callable[[Visit], Answer], resident: Resident, carry: Carry, message: Message
) -> RecordDict:
    """Answers a message of a stage with one protocol message.

    Raises:
        Rejected: The message is none, or the device's policy says no.
        Refusal: The protocol does.
    """
    visit = Visit.of(resident, message)
    with visit.device.alone():
        said, state = stage(visit)
        if state is not None:
            visit.device.open_round().put(state)
    return pack_secret(said.encode(), visit.asked.echo | {"schema": SECURE_SCHEMA})


def pack_secret(data: bytes, echo: Echo) -> RecordDict:
    """A protocol message as a message's content."""
    return RecordDict({RECORD: ConfigRecord({BYTES: data}), "protocol": ConfigRecord(dict(echo))})


def unpack_secret(content: RecordDict, echo: Echo) -> bytes:
    """The protocol message in a reply that says nothing besides.

    Raises:
        Rejected: It does.
    """
    found, protocol = content.get(RECORD), content.get("protocol")
    if set(content) != {RECORD, "protocol"} or type(found) is not ConfigRecord:
        raise Rejected("schema")
    if type(protocol) is not ConfigRecord or dict(protocol) != dict(echo):
        raise Rejected("schema")
    fields = dict(found)
    if set(fields) != {BYTES} or type(fields[BYTES]) is not bytes:
        raise Rejected("schema")
    return cast(bytes, fields[BYTES])
