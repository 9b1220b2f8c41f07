"""Clients that mean harm: what they send, and an engine in which they take part.

Updates are changed on their way to the server, wrong labels where the client reads its people.
Every bad reply keeps to the schema and names its true number of samples, so that only the gate's
look at values, or a robust mean, stands against it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from pchmr.bench.tampering import Fault, changed_array
from pchmr.config import FederateConfig
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.federated import Engine, Gate, World
from pchmr.federated.client import layout_of
from pchmr.federated.cohort import Reply
from pchmr.federated.flower.api import ConfigRecord, Message, SharedArray, new_context
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.engines import RUN_ID
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server import Server
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.fold import vector_norm
from pchmr.federated.run import gate_of
from pchmr.federated.update import Update
from pchmr.recipes.cells import AttackedRun

MISLABELED, TIMES = "labels of other pictures", "updates times "
Change = Callable[[np.ndarray], np.ndarray]
# "one value" is as long as the honest update.
CHANGES: dict[str, Change] = {
    "updates backwards": np.negative,
    "one value": lambda delta: np.full_like(delta, vector_norm(delta) / np.sqrt(len(delta))),
    "one direction times 4.5": lambda delta: np.float32(4.5) * _one_direction(delta),
}


def _one_direction(delta: np.ndarray) -> np.ndarray:
    """A random direction that every bad client sends, as long as the honest update."""
    drawn = np.random.default_rng(0).normal(size=len(delta)).astype(np.float32)
    return drawn * np.float32(vector_norm(delta) / vector_norm(drawn))


@dataclass(frozen=True)
class Mislabeled:
    """People among whom some rows show one person and tell of another.

    Attributes:
        people: The truth.
        source: For every row, the row whose labels stand there.
    """

    people: PeopleDataset
    source: np.ndarray

    @classmethod
    def of(cls, people: PeopleDataset, bad: np.ndarray) -> "Mislabeled":
        """Hands the labels of the rows `bad` round among them by one place."""
        source = np.arange(len(people))
        source[bad] = np.roll(bad, 1)
        return cls(people, source)

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels."""
        return self.people.image_size

    @property
    def is_private(self) -> bool:
        """That of the people."""
        return self.people.is_private

    @property
    def content_hash(self) -> str:
        """That of the truth: a run's own key tells the attack."""
        return self.people.content_hash

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Those of the pictures."""
        return self.people.columns

    def __len__(self) -> int:
        return len(self.people)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """Pictures of the rows asked for, with the labels that stand there."""
        shown = self.people.batch(indices)
        told = self.people.batch(self.source[np.asarray(indices)])
        return replace(told, images=shown.images, index=shown.index)


class OpenGate(Gate):
    """Lets every value pass; the schema still holds."""

    def admit(
        self, client_id: int, update: Update, statistics: np.ndarray, variances: np.ndarray
    ) -> Reply:
        """The reply, whatever it is."""
        norm = float(np.linalg.norm(update.arrays["delta"]))
        return Reply.of(client_id, update, {"delta": norm}, "")

    def judge(self, replies: list[Reply]) -> None:
        """Nothing."""


class AttackedGrid(InProcessGrid):
    """An in-process grid in which some clients' replies are not what they learned."""

    def __init__(self, *args: Any, fault: Fault, num_bad: int) -> None:
        super().__init__(*args)
        self._fault, self._num_bad = fault, num_bad

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields replies, those of bad clients changed."""
        for reply in super().send_and_receive(messages, timeout=timeout):
            protocol = cast(ConfigRecord, reply.content["protocol"])
            is_bad = cast(int, protocol["client_id"]) < self._num_bad
            yield from self._fault(reply) if is_bad else [reply]


@dataclass(frozen=True)
class Conditions:
    """What to hand to `run_federated`: settings and world, and who stands in between."""

    config: FederateConfig
    world: World
    engine: Engine | None = None
    gate: Gate | None = None


def under_attack(run: FederateConfig, world: World) -> Conditions:
    """The conditions of a run, in whose engine the bad clients take part if there are any."""
    if not isinstance(run, AttackedRun):
        return Conditions(run, world)
    plain = FederateConfig(**{f.name: getattr(run, f.name) for f in fields(FederateConfig)})
    if run.attack.startswith(MISLABELED):
        bad = np.concatenate(world.partitions[: run.num_bad])
        world = replace(world, train_set=Mislabeled.of(world.train_set, bad))
    spec = layout_of(world.model, plain)
    honest = gate_of(plain, world, spec)
    known = {f.name: getattr(honest, f.name) for f in fields(Gate)}
    gate = honest if run.gate else OpenGate(**known)
    return Conditions(plain, world, Engine(SharedArray, _Attacked(run)), gate)


@dataclass(frozen=True)
class _Attacked:
    """Runs a server's rounds among bad clients."""

    run: AttackedRun

    def __call__(self, server: Server, world: World, folder: Path) -> None:
        change = change_of(self.run.attack)
        grid = AttackedGrid(
            make_client_app(Residence(world, folder), SharedArray),
            self.run.num_clients,
            RUN_ID,
            fault=changed_array(change) if change else lambda reply: [reply],
            num_bad=self.run.num_bad,
        )
        make_server_app(server)(grid, new_context(RUN_ID, 0))


def change_of(attack: str) -> Change | None:
    """What an attack makes of an update; None where it does its work before."""
    if attack.startswith(TIMES):
        factor = np.float32(float(attack.removeprefix(TIMES)))
        return lambda delta: factor * delta
    return CHANGES.get(attack)
