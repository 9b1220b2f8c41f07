"""The app that a device runs for each message: it reads its folder and its people.

Flower starts a process a message, and most messages of a secure round are about keys: torch and the
network are loaded by those that train, and the network's layout is remembered for the others.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pchmr.config import FederateConfig, from_json
from pchmr.deploy.device import AboutDevice, DeviceFolder
from pchmr.deploy.processes import PLACE
from pchmr.federated.flower.api import wire_array
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.policy import REFUSED, Errand, Guard
from pchmr.federated.task import Answering, Task
from pchmr.federated.update import Rejected, Update, UpdateSchema

if TYPE_CHECKING:
    from pchmr.federated.client import Worker


@dataclass
class DeviceWorker:
    """Answers for the clients of a device; see `Answering`.

    Attributes:
        folder: Of the device.
        config: Of the run.
    """

    folder: DeviceFolder
    config: FederateConfig
    _about: AboutDevice = field(init=False)
    _made: Any = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._about = self.folder.about

    @property
    def spec(self) -> Any:
        """Layout of the model."""
        return self._worker().spec

    def schema(self, run: int) -> UpdateSchema:
        """What may leave in a run."""
        return self._worker().schema(run)

    def is_here(self, client_id: int) -> bool:
        """Whether the device plays a logical client."""
        return client_id in self._about.clients

    def samples_of(self, client_id: int) -> int | None:
        """How many samples a logical client holds here; None for one that is not here."""
        return self._worker().samples_of(client_id)

    def errand(self, run: int, round_number: int, client_id: int, node_id: int) -> Errand:
        """What is asked of the device."""
        return Errand(run, round_number, client_id, node_id, self._fingerprint())

    def answer(self, task: Task, guard: Guard, *, run: int, node_id: int) -> Update:
        """Trains if the policy and those in the pictures allow it; takes down for which run, before
        anything leaves.

        Raises:
            Rejected: They do not.
        """
        from pchmr.deploy.agreement import is_agreed, note_model  # with torch, which trains

        worker, data = self._worker(), Path(self._about.data)
        is_private = worker.world.train_set.is_private
        if is_private and not is_agreed(data):
            raise Rejected(REFUSED)
        update = worker.answer(task, guard, run=run, node_id=node_id)
        name = self.folder.took_part(run, self.config.output.name)
        if is_private:
            note_model(data, f"{name} (run {run}) of federation {self._about.authority[:16]}")
        return update

    def _fingerprint(self) -> str:
        known = self.folder.layout(self.config)
        return self._worker().spec.fingerprint if known is None else known

    def _worker(self) -> "Worker":
        if self._made is None:
            from pchmr.deploy.people import device_worker

            self._made = self._stack.enter_context(device_worker(self.config, self.folder))
            self.folder.remember_layout(self.config, self._made.spec.fingerprint)
        return self._made


@dataclass
class DeviceResidence:
    """Finds the device's worker for a run.

    Attributes:
        folder: Of the device.
    """

    folder: Path
    _known: dict[str, Answering] = field(default_factory=dict)
    _guard: Guard | None = None

    @property
    def guard(self) -> Guard:
        """Holds tasks against the owner's policy."""
        if self._guard is None:
            self._guard = Guard.of(self.folder)
        return self._guard

    def __call__(self, settings: str) -> Answering:
        """The worker for a config that came as JSON.

        Raises:
            Rejected: The config is too long or too deep.
        """
        self.guard.check_settings(settings)
        if settings not in self._known:
            config = from_json(FederateConfig, settings)
            self._known = {settings: DeviceWorker(DeviceFolder.open(self.folder), config)}
        return self._known[settings]


app = make_client_app(DeviceResidence(Path(os.environ.get(PLACE, "."))), wire_array)
