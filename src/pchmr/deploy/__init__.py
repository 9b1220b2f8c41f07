"""`pchmr deploy`: a federation between machines, over TLS, with keys that are made on the devices.

The same apps that run in one process run between machines on Flower's own programs. Certificates
and invites, enrollment, the signed bundle, processes and what operator and owner see are here; the
exchange itself is in `pchmr.federated`.
"""

from collections.abc import Callable

from pchmr.config import DeployConfig


def run(config: DeployConfig) -> None:
    """Does the task."""
    from pchmr.deploy import joining, leaving, operator, running, status

    tasks: dict[str, Callable[[DeployConfig], None]] = {
        "init": operator.init,
        "up": operator.up,
        "invite": operator.invite,
        "join": joining.join,
        "run": running.run,
        "status": status.status,
        "down": leaving.down,
        "withdraw": leaving.withdraw,
    }
    tasks[config.task](config)


__all__ = ["run"]
