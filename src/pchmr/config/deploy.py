"""Config of the verb that federates between machines."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pchmr.config.errors import require
from pchmr.config.options import ModelOptions, OptimOptions, ServerOptions
from pchmr.config.privacy import PrivacyOptions
from pchmr.config.verbs import Algorithm

DeployTask = Literal["init", "up", "invite", "join", "run", "status", "down", "withdraw"]
DEFAULT_PORT = 8443
READ_BY = {
    "host": ("init", "up"),
    "port": ("init", "up"),
    "names": ("init",),
    "renew": ("init",),
    "days": ("init", "invite"),
    "clients": ("invite",),
    "data": ("join", "down", "withdraw"),
    "roster": ("join",),
    "who": ("join",),
    "keep_days": ("join",),
    "background": ("up", "join"),
    "resume": ("run",),
    "wait": ("run",),
    "num_rounds": ("init", "run"),
    "clients_per_round": ("init", "run"),
    "local_epochs": ("init", "run"),
    "algorithm": ("init", "run"),
    "seed": ("init", "run"),
    "image_size": ("init", "run"),
    "device": ("init", "run"),
    "page": ("status",),
}
"""Tasks that read an option; others refuse it."""


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """Federate between machines: `init DIR`, `up`, `invite NAME`, `join INVITE --data DIR`, `run`,
    `status`, `down`, `withdraw`."""

    task: Annotated[DeployTask, tyro.conf.Positional]
    """What to do: the server's operator runs init, up, invite, run, status, down; the owner of a
    device runs join, down, withdraw."""
    name: Annotated[Path | None, tyro.conf.Positional] = None
    """DIR to make (init), NAME of a device (invite), the invite's file (join); of the others the
    folder of the federation or of the device."""
    folder: Path | None = None
    """Folder of the federation; for join, that of the device's keys (default: DATA/federation).
    Without it, the current folder or the one federation in it."""
    data: Path | None = None
    """The device's own people: labels of `pchmr annotate`, or a folder of `pchmr data`."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all of this machine."""
    port: int | None = None
    """Port of the server (default: 8443)."""
    names: str = "localhost,127.0.0.1"
    """Names and addresses by which devices reach the server, by commas; the first is in invites."""
    renew: bool = False
    """Make a new server certificate of the same authority; devices need not join again."""
    days: int | None = None
    """Days for which the server's certificate (365) or an invite (7) holds."""
    clients: int = 1
    """Logical clients that the device plays: 1, or several on a machine of a lab."""
    roster: str | None = None
    """Fingerprint of the roster, as the operator told it over another channel; pins the roster."""
    who: str | None = None
    """Who agrees to the use of these pictures; needed once for people before a camera."""
    keep_days: float | None = None
    """Days for which this consent holds."""
    background: bool = True
    """Return once it runs; `--no-background` stays, for systemd and containers."""
    resume: bool = False
    """Go on after the last finished round of the last run."""
    wait: bool = True
    """Show the rounds until the end; `--no-wait` returns once the run has begun."""
    page: bool = False
    """Write the status as a page, too: DIR/status.html."""
    num_rounds: int = 5
    """Rounds of training and aggregation."""
    clients_per_round: int | None = None
    """Clients drawn each round; without it, all."""
    local_epochs: int = 1
    """Passes over its own data that a client makes in a round."""
    algorithm: Algorithm = "fedavg"
    """Server algorithm."""
    seed: int = 0
    """Seed of cohorts, data order and random weights."""
    image_size: int | None = None
    """Side of a crop in pixels; without it, the model's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where devices compute."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""
    optim_options: OptimOptions = field(default_factory=OptimOptions)
    """How weights are fitted on a device."""
    server_options: ServerOptions = field(default_factory=ServerOptions)
    """What the server does with updates."""
    privacy_options: PrivacyOptions = field(default_factory=PrivacyOptions)
    """What the server may learn of a device."""

    def __post_init__(self) -> None:
        for name, tasks in READ_BY.items():
            flag = f"--{name.replace('_', '-')}"
            is_read = self.task in tasks or getattr(self, name) == _default(name)
            require(
                is_read, f"{flag} is read by {', '.join(tasks)} only, not by {self.task}: leave it"
            )
        needs = {"init": "DIR", "invite": "NAME", "join": "INVITE"}.get(self.task)
        require(
            needs is None or self.name is not None,
            f"`pchmr deploy {self.task}` needs {needs}",
        )
        require(self.port is None or 1 <= self.port <= 65_535, "--port must lie in 1 to 65535")
        require(self.days is None or self.days >= 1, "--days must be at least 1")
        require(1 <= self.clients <= 1000, "--clients must lie in 1 to 1000")
        require(self.keep_days is None or self.keep_days > 0, "--keep-days must be positive")
        paths = (self.model_options.checkpoint, self.model_options.body)
        require(
            not any((*paths, self.model_options.backbone_weights)),
            "--checkpoint, --body and --backbone-weights are files of one machine, and devices "
            "build the network from what they have installed: leave them out",
        )


def _default(name: str) -> Any:
    return next(f.default for f in fields(DeployConfig) if f.name == name)
