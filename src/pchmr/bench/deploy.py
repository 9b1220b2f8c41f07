"""What a round between machines costs beyond training, beside Flower's own app; limits of a server.

A server and two devices run as real processes on loopback, over TLS. Ten million weights go to the
devices and come back, and nobody trains; the CPU seconds are those of every process of the
federation, the app processes that Flower starts for each message included.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from pchmr.bench.deploy_apps import MILLIONS, NUM_NODES
from pchmr.bench.federated import in_own_process
from pchmr.config import BenchConfig, DeployConfig
from pchmr.deploy import joining, operator, processes
from pchmr.deploy.bundle import make_bundle, read_bundle, signer_public
from pchmr.deploy.device import DeviceFolder
from pchmr.deploy.down import down
from pchmr.deploy.federation import Federation
from pchmr.deploy.invites import make_invite, read_invite
from pchmr.deploy.running import connected
from pchmr.federated.flower.capacity import measure_register
from pchmr.federated.flower.control import COMPLETED
from pchmr.results import ResultRow, Target, figure

NODES = 1000
TURNS = 3  # of either kind, one after the other, so that a busy minute meets both
CODE = "from pchmr.bench.deploy_apps import APPS\n\napp = APPS[{name!r}]()\n"


@contextmanager
def rig(folder: Path) -> Iterator[Federation]:
    """A server and its devices, up as long as it is entered."""
    path = folder / "fed"
    operator.init(DeployConfig(task="init", name=path, port=processes.free_port()))
    federation = Federation.open(path)
    try:
        operator.up(DeployConfig(task="up", name=path))
        for number in range(NUM_NODES):
            invite = make_invite(federation, f"d{number}", signer_public(path))
            device = folder / f"d{number}"
            joining.enroll(read_invite(invite), device, data=device, most_samples=1)
            joining.start(DeviceFolder.open(device))
        yield federation
    finally:
        down(DeployConfig(task="down", name=path))


def measure_rounds(federation: Federation, kind: str) -> list[float]:
    """CPU seconds of each round of a run of `own` or `stock` apps.

    Raises:
        RuntimeError: The run failed.
    """
    make_bundle(
        federation.path,
        CODE.format(name=f"{kind}_server"),
        CODE.format(name=f"{kind}_client"),
    )
    noted = federation.path.resolve() / f"{kind}.json"
    with connected(federation) as control:
        told: dict[str, str | bool] = {"run": str(noted)}
        state = control.wait(control.start(read_bundle(federation.path), told))
    if state.ending != COMPLETED:
        raise RuntimeError(f"{kind}: {state.details}")
    return np.diff(json.loads(noted.read_text(encoding="utf-8"))).tolist()


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `deploy`."""
    rows: list[ResultRow] = []
    with tempfile.TemporaryDirectory(prefix="pchmr-deploy-") as folder:
        place = Path(folder)
        with rig(place) as federation:
            rounds: dict[str, list[float]] = {"stock": [], "own": []}
            for kind in [*rounds] * TURNS:
                rounds[kind] += measure_rounds(federation, kind)
        found = {kind: median(spent) for kind, spent in rounds.items()}
        name = f"a round between machines, {MILLIONS} M weights, {NUM_NODES} nodes, no training"
        for kind, words in (("own", "pchmr"), ("stock", "Flower's own app")):
            rows.append(figure(f"{name}, {words}", round(found[kind], 2), "CPU-s"))
        ratio = round(found["own"] / found["stock"], 3)
        rows.append(figure(f"{name}, ratio", ratio, "x Flower's app", Target("<=", 1.1)))
        known = in_own_process(
            measure_register.__module__, "measure_register", NODES, str(place / "nodes.db")
        )
    words = f"server's register, {NODES} nodes"
    rows.append(figure(f"{words}, memory", round(known["memory_mb"], 1), "MB"))
    rows.append(figure(f"{words}, database", round(known["database_mb"], 2), "MB"))
    rows.append(figure(f"{words}, calls", round(known["calls_a_second"]), "a CPU second"))
    return rows
