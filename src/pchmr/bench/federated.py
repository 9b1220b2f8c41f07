"""What a federated round costs beyond local training: CPU seconds and memory, in-process.

Clients train nothing, and making their optimizers is not counted, so all that is measured is the
exchange: the model to the client, the delta back, gate, sum, the new global model, and the
checkpoint on disk. Each size runs in a process of
its own, so that peak memory is its own; a plain loop over the same tensors stands beside it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pchmr.bench.memory import peak_bytes
from pchmr.config import BenchConfig, FederateConfig
from pchmr.federated import Training, World, run_federated
from pchmr.results import ResultRow, Target, figure
from pchmr.runs import RunFolder

NUM_TENSORS = 300
CLIENTS_PER_ROUND = 10
TARGETS = {10: 0.4, 33: 0.9}
# Rounds until the files that checkpoints take turns in exist; a run has hundreds of others.
WARM_UP = 4
SIZES = ((10, 10), (10, 100), (10, 1000), (33, 10), (33, 100), (33, 1000))


@dataclass(frozen=True)
class NoPeople:
    """As many rows as clients; nobody looks at them."""

    num_rows: int
    image_size: int = 1
    content_hash: str = "nobody"
    is_private: bool = False

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """No labels."""
        return {}

    def __len__(self) -> int:
        return self.num_rows

    def batch(self, indices: Any) -> Any:
        """There is nothing to see."""
        raise AssertionError("the benchmark trains nothing")


@dataclass(frozen=True)
class NoLosses:
    """A local epoch that saw nothing."""

    losses: dict[str, float]


TASKS_BEGAN: list[float] = []
LOCAL_SECONDS: list[float] = []


def _no_epoch(
    model: nn.Module, dataset: Any, optimizer: torch.optim.Optimizer, *, seed: int, epoch: float
) -> NoLosses:
    TASKS_BEGAN.append(time.perf_counter())
    optimizer.step()
    return NoLosses({"none": 0.0})


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    began = time.process_time()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    LOCAL_SECONDS.append(time.process_time() - began)
    return optimizer


def weights(millions: int) -> nn.Module:
    """A model of that many million weights in 300 tensors, which computes nothing."""
    size = millions * 1_000_000 // NUM_TENSORS
    return nn.ParameterList(nn.Parameter(torch.full((size,), 0.1)) for _ in range(NUM_TENSORS))


def family_cpu_seconds() -> float:
    """CPU seconds of this process and of all that it started and that still run (Linux)."""
    parents, spent = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, family = time.process_time(), {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        total += sum(spent[pid] for pid in found)
        family |= found
    return total


def measure_rounds(
    millions: int, num_clients: int, num_rounds: int, engine: Literal["inprocess", "ray"]
) -> dict[str, float]:
    """Runs rounds in this process; returns CPU and wall seconds a round, start and peak memory."""
    config = FederateConfig(
        num_clients=num_clients,
        clients_per_round=CLIENTS_PER_ROUND,
        num_rounds=num_rounds,
        engine=engine,
    )
    world = World(
        model=weights(millions),
        body=None,
        train_set=NoPeople(num_clients),
        partitions=list(np.arange(num_clients)[:, None]),
        training=Training(_sgd, _no_epoch),
    )
    cpu, wall, began = [], [], time.perf_counter()

    def note(_: Any) -> None:
        cpu.append(family_cpu_seconds() - sum(LOCAL_SECONDS))
        wall.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        run_federated(config, world, RunFolder(Path(folder)), on_round=note)
    return {
        "cpu_seconds": float(np.median(np.diff(cpu)[WARM_UP - 1 :])),
        "wall_seconds": float(np.median(np.diff(wall)[WARM_UP - 1 :])),
        "start_seconds": min(TASKS_BEGAN, default=began) - began,
        "peak_gb": peak_bytes() / 1e9,
    }


def measure_plain_loop(millions: int, num_rounds: int) -> dict[str, float]:
    """The least that any federation does: load, subtract, add, for ten clients."""
    model = weights(millions)
    base = [p.detach().clone() for p in model.parameters()]
    cpu = []
    for _ in range(num_rounds):
        began = time.process_time()
        total = [torch.zeros_like(p) for p in base]
        for _ in range(CLIENTS_PER_ROUND):
            with torch.no_grad():
                for p, start, added in zip(model.parameters(), base, total, strict=True):
                    p.copy_(start)
                    added.add_(p - start)
        for start, added in zip(base, total, strict=True):
            start.add_(added, alpha=1 / CLIENTS_PER_ROUND)
        cpu.append(time.process_time() - began)
    return {"cpu_seconds": median(cpu)}


def in_own_process(module: str, function: str, *arguments: int | str) -> Any:
    """What a function returns, as JSON holds it, run on one thread in a fresh Python."""
    call = f"import json, torch; torch.set_num_threads(1); from {module} import {function} as f; "
    call += f"print(json.dumps(f(*{arguments!r})))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{function} failed: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `federated`; medians over `repeats` rounds."""
    rows: list[ResultRow] = []

    def add(label: str, value: float, unit: str, most: float | None = None) -> None:
        target = None if most is None else Target("<=", most)
        rows.append(figure(label, round(value, 3), unit, target))

    def rounds(*arguments: int | str) -> dict[str, float]:
        return in_own_process(__name__, "measure_rounds", *arguments)

    for millions, num_clients in SIZES:
        found = rounds(millions, num_clients, config.repeats + WARM_UP, "inprocess")
        name = f"round overhead, {millions} M weights, 10 of {num_clients} clients"
        add(name, found["cpu_seconds"], "CPU-s", TARGETS[millions])
        add(f"{name}, wall", found["wall_seconds"], "s")
        add(f"{name}, peak memory", found["peak_gb"], "GB", 1.5)
        if num_clients == 1000:
            add(f"{name}, start to first client", found["start_seconds"], "s", 5.0)
    for millions in TARGETS:
        found = in_own_process(__name__, "measure_plain_loop", millions, config.repeats)
        add(f"plain torch loop, {millions} M weights, 10 clients", found["cpu_seconds"], "CPU-s")
    return rows
