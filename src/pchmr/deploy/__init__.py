"""`pchmr deploy`: a federation between machines, over TLS, with keys that are made on the devices.

The same apps that run in one process run between machines on Flower's own programs. Certificates
and invites, enrollment, the signed bundle, processes and what operator and owner see are here; the
exchange itself is in `pchmr.federated`.
"""

from importlib import import_module

from pchmr.config import DeployConfig

TASKS = {
    "init": "operator:init",
    "up": "operator:up",
    "invite": "operator:invite",
    "join": "joining:join",
    "run": "running:run",
    "status": "status:status",
    "down": "down:down",
    "withdraw": "withdrawing:withdraw",
}


def run(config: DeployConfig) -> None:
    """Does the task; no more is imported than it needs."""
    module, name = TASKS[config.task].split(":")
    getattr(import_module(f"{__name__}.{module}"), name)(config)


__all__ = ["run"]
