"""Clients that mean harm: what they send, and an engine in which they take part.

Updates are changed on their way to the server, wrong labels where the client reads its people.
Every bad reply keeps to the schema and names its true number of samples, so that only the gate's
look at values, or a robust mean, stands against it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from pchmr.bench.tampering import Fault, changed_array
from pchmr.config import FederateConfig
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.federated import ENGINES, World
from pchmr.federated.flower.api import ConfigRecord, Message, SharedArray, new_context
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.egress import Update
from pchmr.federated.flower.engines import RUN_ID, Engine
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server import Server
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.fold import vector_norm
from pchmr.federated.validation import Gate
from pchmr.recipes.rows import AttackedRun

MISLABELED = "labels of other pictures"
# "one value" is as long as the honest update.
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "updates backwards": np.negative,
    "updates times 100": lambda delta: np.float32(100) * delta,
    "one value": lambda delta: np.full_like(delta, vector_norm(delta) / np.sqrt(len(delta))),
}


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

    def admit(self, update: Update, statistics: np.ndarray, variances: np.ndarray) -> float:
        """The length of the update, whatever it is."""
        return float(np.linalg.norm(update.arrays["delta"]))

    def settle(self, statistics: np.ndarray) -> dict[int, str]:
        """Nothing."""
        return {}


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


@contextmanager
def under_attack(run: FederateConfig, world: World) -> Iterator[tuple[FederateConfig, World]]:
    """Settings and world to hand to `run_federated`, in whose engine the bad clients take part."""
    if not isinstance(run, AttackedRun):
        yield run, world
        return
    plain = FederateConfig(**{f.name: getattr(run, f.name) for f in fields(FederateConfig)})
    if run.attack == MISLABELED:
        bad = np.concatenate(world.partitions[: run.num_bad])
        world = replace(world, train_set=Mislabeled.of(world.train_set, bad))
    honest = ENGINES[run.engine]
    ENGINES[run.engine] = Engine(SharedArray, _Attacked(run))
    try:
        yield plain, world
    finally:
        ENGINES[run.engine] = honest


@dataclass(frozen=True)
class _Attacked:
    """Runs a server's rounds among bad clients."""

    run: AttackedRun

    def __call__(self, server: Server, world: World, folder: Path) -> None:
        if not self.run.gate:
            server.gate = OpenGate(**{f.name: getattr(server.gate, f.name) for f in fields(Gate)})
        change = CHANGES.get(self.run.attack)
        fault = changed_array(change) if change else lambda reply: [reply]
        grid = AttackedGrid(
            make_client_app(Residence(world, folder), SharedArray),
            self.run.num_clients, RUN_ID, fault=fault, num_bad=self.run.num_bad,
        )  # fmt: skip
        make_server_app(server)(grid, new_context(RUN_ID, 0))
