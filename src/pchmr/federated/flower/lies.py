"""Lies beside the protocol's own messages, told to the handlers that every engine runs.

A server says with each message by which settings, in which run and round a client is to work, and
in the offer how vectors are encoded. What it says must be what the round began with, and what
follows from the settings. The clients here are real but for training, which a stand-in notes; the
lies within the protocol's messages are in `secure/lies.py`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pchmr.config import FederateConfig, PrivacyOptions, ServerOptions, from_json, to_json
from pchmr.door import Json
from pchmr.federated.flower.api import ConfigRecord, Message, SharedArray
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.secure_rounds import SecureRounds
from pchmr.federated.hidden import HiddenSum
from pchmr.federated.outcome import Outcome
from pchmr.federated.policy import ClientPolicy, Errand, Guard
from pchmr.federated.secure.device import enroll
from pchmr.federated.secure.messages import Group, Settings
from pchmr.federated.secure.refusal import Reason
from pchmr.federated.task import Task
from pchmr.federated.update import Update, UpdateSchema
from pchmr.federated.vector import FlatSpec

NUM_CLIENTS, VICTIM, ROUND, RUN = 5, 2, 1, 7
SIZE, SAMPLES, MOST_SAMPLES, LAYOUT = 32, 12, 16, "layout"
STAGES = ("query.sa_keys", "query.sa_shares", "train.sa_masked", "query.sa_consistency")
STAGES = (*STAGES, "query.sa_unmask")
SECURE = PrivacyOptions(aggregation="secure")
NOISED = replace(SECURE, dp_clip=1.0, dp_noise_multiplier=1.0, secure_bits=18)
Fields = Json


@dataclass(frozen=True)
class Lie:
    """What is told in place of the truth, and why clients are to refuse.

    Attributes:
        reason: Of the refusals.
        stage: Of the messages whose fields are changed; all but one client are told so.
        fields: Changes the fields of a task.
        encode: Changes the encoding in the offer; all clients are told so.
        privacy: Of the run.
    """

    reason: Reason
    stage: str = ""
    fields: Callable[[Fields], Fields] = dict
    encode: Callable[[Settings], Settings] = lambda settings: settings
    privacy: PrivacyOptions = SECURE


def _schema(run: int) -> UpdateSchema:
    return UpdateSchema(sizes={"delta": SIZE}, fingerprint=LAYOUT, run=run)


@dataclass
class _StandIn:
    """Answers for a client without any data, and notes who was to train."""

    config: FederateConfig
    trained: set[int]
    spec: Any = None

    def schema(self, run: int) -> UpdateSchema:
        return _schema(run)

    def errand(self, run: int, round_number: int, client_id: int, node_id: int) -> Errand:
        return Errand(run, round_number, client_id, node_id, LAYOUT)

    def is_here(self, client_id: int) -> bool:
        return client_id < NUM_CLIENTS

    def samples_of(self, client_id: int) -> int | None:
        return SAMPLES

    def answer(self, task: Task, guard: Guard, *, run: int, node_id: int) -> Update:
        self.trained.add(task.client_id)
        delta = np.full(SIZE, 1e-3, dtype=np.float32)
        return Update({"delta": delta}, num_samples=SAMPLES, num_steps=1, loss_sum=1.0)


@dataclass
class _Resident:
    guard: Guard
    trained: set[int] = field(default_factory=set)

    def __call__(self, settings: str) -> _StandIn:
        return _StandIn(from_json(FederateConfig, settings), self.trained)


class _LyingGrid(InProcessGrid):
    """Changes the fields of tasks of one stage on their way, for all clients but one."""

    lie: Lie

    def _deliver(self, message: Message) -> Message:
        told = dict(message.content["protocol"])
        if message.metadata.message_type == self.lie.stage and told["client_id"] != VICTIM:
            message.content["protocol"] = ConfigRecord(self.lie.fields(told))
        return super()._deliver(message)


@dataclass(frozen=True)
class _LyingSum(HiddenSum):
    """Encodes otherwise than the config says."""

    lie: Lie

    def settings(self, round_number: int, training: bytes) -> Settings:
        return self.lie.encode(super().settings(round_number, training))


def config_of(privacy: PrivacyOptions) -> FederateConfig:
    """Of a run of five clients, whose learning rate falls with the rounds."""
    return FederateConfig(
        num_clients=NUM_CLIENTS,
        clients_per_round=NUM_CLIENTS,
        num_rounds=3,
        privacy_options=privacy,
        server_options=ServerOptions(round_schedule="cosine", batch_norm="freeze"),
    )


@dataclass(frozen=True)
class Played:
    """What came of a round: who trained, who refused why, and whether there was a sum."""

    trained: set[int]
    refusals: set[tuple[int, str]]
    is_opened: bool


def play(lie: Lie) -> Played:
    """Plays a round in which a lie is told."""
    config, schema = config_of(lie.privacy), _schema(RUN)
    hidden = _LyingSum(config, schema.sizes, MOST_SAMPLES, lie)
    with TemporaryDirectory() as place:
        resident = _Resident(Guard.of(Path(place), ClientPolicy()))
        keys, text = enroll(Path(place), NUM_CLIENTS), to_json(config)
        layout = FlatSpec((), (), ())  # without running statistics nobody reads it
        rounds = SecureRounds(config, layout, schema, hidden, text, SharedArray, keys)
        grid = _LyingGrid(make_client_app(resident, SharedArray), NUM_CLIENTS, RUN)
        grid.lie, outcome = lie, Outcome(cohort=list(range(NUM_CLIENTS)))
        weights = np.zeros(SIZE, dtype=np.float32)
        task = Task(ROUND, 0, weights, weights[:0])
        sums = rounds.collect(grid, list(grid.get_node_ids()), task, 0, outcome)
    refusals = {(found.client_id, found.reason) for found in outcome.quarantined}
    return Played(resident.trained, refusals, sums is not None)


def is_refused(lie: Lie) -> bool:
    """Whether all that were lied to refused, and before they trained if they had not yet."""
    lied_to = {client for client in range(NUM_CLIENTS) if not lie.stage or client != VICTIM}
    played = play(lie)
    late = lie.stage in STAGES[3:]
    same = played.refusals == {(client, lie.reason.value) for client in lied_to}
    return same and not played.is_opened and (late or not played.trained & lied_to)


def _rate(fields: Fields) -> Fields:
    settings = json.loads(fields["settings"])
    settings["optim_options"]["learning_rate"] = 1e-6
    return fields | {"settings": json.dumps(settings)}


def _groups(change: Callable[[Group], Group], name: str) -> Callable[[Settings], Settings]:
    """Changes one group of an encoding."""

    def changed(told: Settings) -> Settings:
        groups = (change(group) if group.name == name else group for group in told.groups)
        return replace(told, groups=tuple(groups))

    return changed


def _bound(name: str, bound: float) -> Callable[[Settings], Settings]:
    return _groups(lambda group: replace(group, bound=bound), name)


def _encoded(encode: Callable[[Settings], Settings], privacy: PrivacyOptions = SECURE) -> Lie:
    return Lie(Reason.WRONG_CONFIG, encode=encode, privacy=privacy)


def _at_each_stage() -> dict[str, Lie]:
    """Other settings, another round and another run than the round began with."""
    found = {}
    for stage in STAGES:
        told = f"with {stage.rpartition('_')[2]}"
        found[f"another learning rate {told}"] = Lie(Reason.WRONG_CONFIG, stage, _rate)
        for name in ("round", "run"):
            change = dict.fromkeys([name], 3)
            found[f"another {name} {told}"] = Lie(
                Reason.WRONG_ROUND, stage, lambda fields, change=change: fields | change
            )
    return found


LIES: dict[str, Lie] = {
    **_at_each_stage(),
    "no noise": _encoded(lambda told: replace(told, noise=0.0), NOISED),
    "half the noise": _encoded(lambda told: replace(told, noise=0.5), NOISED),
    "twice the clip": _encoded(_bound("delta", 2.0), NOISED),
    "another ring": _encoded(lambda told: replace(told, bits=24)),
    "another weight cap": _encoded(lambda told: replace(told, weight_cap=3.0)),
    "another range": _encoded(_bound("delta", 1e-6)),
    "a group less": _encoded(lambda told: replace(told, groups=told.groups[:-1])),
    "a limb more": _encoded(_groups(lambda group: replace(group, limbs=2), "delta")),
    "a bound on samples below the client's": _encoded(_bound("samples", 8.0)),
    "a bound on samples that is no power of two": _encoded(_bound("samples", 17.0)),
    "a bound on samples above the policy's": _encoded(_bound("samples", 2.0**40)),
}
