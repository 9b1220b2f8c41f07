"""One resident worker a process: made for the first task, kept until the config changes."""

from dataclasses import dataclass, field
from pathlib import Path

from pchmr.config import FederateConfig, from_json
from pchmr.federated.client import Worker, World


@dataclass
class Residence:
    """Keeps one worker alive for as long as its config stays the same."""

    world: World
    state_folder: Path
    _known: dict[str, Worker] = field(default_factory=dict)

    def __call__(self, settings: str) -> Worker:
        """The worker for a config that came as JSON."""
        if settings not in self._known:
            config = from_json(FederateConfig, settings)
            self._known = {settings: Worker(self.world, config, self.state_folder)}
        return self._known[settings]
