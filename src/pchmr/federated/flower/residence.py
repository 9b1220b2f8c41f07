"""One resident worker a process: made for the first task, kept until the config changes."""

from dataclasses import dataclass, field
from pathlib import Path

from pchmr.config import FederateConfig, from_json
from pchmr.federated.client import Worker
from pchmr.federated.policy import ClientPolicy, Guard
from pchmr.federated.world import World


@dataclass
class Residence:
    """Keeps one worker alive for as long as its config stays the same.

    Attributes:
        world: What the device holds.
        state_folder: What it keeps between rounds, and its policy if there is one.
        policy: In place of the file's.
    """

    world: World
    state_folder: Path
    policy: ClientPolicy | None = None
    guard: Guard = field(init=False)
    _known: dict[str, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.guard = Guard.of(self.state_folder, self.policy)

    def __call__(self, settings: str) -> Worker:
        """The worker for a config that came as JSON.

        Raises:
            Rejected: The config is too long or too deep.
        """
        self.guard.check_settings(settings)
        if settings not in self._known:
            config = from_json(FederateConfig, settings)
            self._known = {settings: Worker(self.world, config, self.state_folder)}
        return self._known[settings]
