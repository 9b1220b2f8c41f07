"""The app that a device runs for each message: it reads its folder and its people"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pchmr.config import FederateConfig, from_json
from pchmr.deploy.device import DeviceFolder
from pchmr.deploy.processes import PLACE
from pchmr.federated.client import Worker
from pchmr.federated.flower.api import wire_array
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.policy import Guard


@dataclass
class DeviceResidence:
    """Makes the device's worker from its folder when a task needs one.

    Attributes:
        folder: Of the device.
    """

    folder: Path
    _worker: dict[str, Worker] = field(default_factory=dict)
    _guard: Guard | None = None

    @property
    def guard(self) -> Guard:
        """Holds tasks against the owner's policy."""
        if self._guard is None:
            self._guard = Guard.of(self.folder)
        return self._guard

    def __call__(self, settings: str) -> Worker:
        """The worker for a config that came as JSON.

        Raises:
            Rejected: The config is too long or too deep.
        """
        from pchmr.deploy.people import device_world

        self.guard.check_settings(settings)
        if settings not in self._worker:
            config = from_json(FederateConfig, settings)
            about = DeviceFolder.open(self.folder).about
            world = device_world(config, Path(about.data), about.clients)
            self._worker = {settings: Worker(world, config, self.folder)}
        return self._worker[settings]


app = make_client_app(DeviceResidence(Path(os.environ.get(PLACE, "."))), wire_array)
