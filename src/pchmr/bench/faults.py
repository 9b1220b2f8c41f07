"""Breaks replies, drops them, kills runs, and counts what federation made of it.

Clients of a tiny world answer honestly; a grid in between tampers with some replies. After every
round the model must equal the mean of the replies that were left alone, computed here anew, or be
unchanged where too few were left. Then runs are killed with SIGKILL at random moments and must
resume to the same weights, bit for bit.
"""

import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pchmr.bench.federated import NoLosses, NoPeople, in_own_process
from pchmr.bench.tampering import FAULTS, HARMLESS, Attempt, FaultyGrid
from pchmr.config import BenchConfig, FederateConfig, OptimOptions
from pchmr.federated import ENGINES, Training, World, run_federated
from pchmr.federated.client_app import make_client_app
from pchmr.federated.engines import RUN_ID, Engine
from pchmr.federated.flower import SharedArray, new_context
from pchmr.federated.residence import Residence
from pchmr.federated.server import Row, Server
from pchmr.federated.server_app import make_server_app
from pchmr.runs import RunFolder, state_sha256

NUM_CLIENTS, CLIENTS_PER_ROUND, ROWS = 12, 6, 96
ROUNDS_PER_RUN, KILLED_ROUNDS = 25, 20
BATCH_SIZE = 4
FAULT_SHARE = 0.4
TOLERANCE = 1e-6
# A killed process loses nothing that it gave to the kernel, so memory serves as well as a disk.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else None


def _tiny_epoch(
    model: nn.Module, dataset: Any, optimizer: torch.optim.Optimizer, *, seed: int, epoch: float
) -> NoLosses:
    """Moves weights and statistics by seeded noise, as long as AdamW could."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.randn(parameter.shape, generator=noise)
        for name, statistic in model.named_buffers():
            if statistic.is_floating_point():
                drawn = torch.rand(statistic.shape, generator=noise)
                statistic.copy_(0.9 * statistic + 0.1 * (drawn + ("var" in name)))
    for _ in range(math.ceil(len(dataset) / BATCH_SIZE)):
        optimizer.step()
    return NoLosses({"none": 0.0})


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def tiny_world() -> World:
    """Forty weights, a normalization layer, and clients of different volume."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    cuts = np.sort(np.random.default_rng(0).permutation(ROWS - 1)[: NUM_CLIENTS - 1] + 1)
    return World(
        model=model,
        body=None,
        train_set=NoPeople(ROWS),
        partitions=np.split(np.arange(ROWS), cuts),
        training=Training(_adamw, _tiny_epoch),
    )


def tiny_config(num_rounds: int, seed: int = 0) -> FederateConfig:
    """A run over the tiny world."""
    return FederateConfig(
        num_clients=NUM_CLIENTS,
        clients_per_round=CLIENTS_PER_ROUND,
        num_rounds=num_rounds,
        seed=seed,
        optim_options=OptimOptions(learning_rate=1e-3, batch_size=BATCH_SIZE),
    )


class Auditor:
    """Compares the model after each round with the mean of the replies that were left alone."""

    def __init__(self, server: Server, grid: FaultyGrid) -> None:
        self._server, self._grid = server, grid
        self._tell, server.tell = server.tell, self._check
        self._seen = 0
        self.wrong = 0
        self._remember()

    def _remember(self) -> None:
        self._before = (self._server.parameters.copy(), self._server.buffers.copy())

    def _check(self, row: Row) -> None:
        attempts = self._grid.attempts[self._seen :]
        self._seen = len(self._grid.attempts)
        expected = self._expected(attempts)
        found = (self._server.parameters, self._server.buffers)
        pairs = zip(found, expected, strict=True)
        self.wrong += not all(np.allclose(f, e, rtol=0, atol=TOLERANCE) for f, e in pairs)
        self._remember()
        self._tell(row)

    def _expected(self, attempts: list[Attempt]) -> tuple[np.ndarray, np.ndarray]:
        enough = (CLIENTS_PER_ROUND + 1) // 2
        for attempt in attempts:
            good = attempt.good()
            if len(good) >= enough:
                total = sum(n for _, _, n in good)
                moved = np.sum([n * delta for delta, _, n in good], axis=0) / total
                return self._before[0] + moved, np.sum([n * b for _, b, n in good], axis=0) / total
        return self._before


def inject(num_faults: int, seed: int = 0) -> dict[str, int]:
    """Runs federations with broken replies until so many faults were injected.

    Returns:
        Counts of faults injected, wrong aggregates, and runs that died.
    """
    rng = np.random.default_rng(seed)
    kinds = cycle(rng.permutation([*FAULTS, *HARMLESS]).tolist())
    counts = {"injected": 0, "wrong": 0, "died": 0, "kinds": len(FAULTS) + len(HARMLESS)}

    def choose() -> str | None:
        return next(kinds) if rng.random() < FAULT_SHARE else None

    def run(server: Server, world: World, folder: Path) -> None:
        client_app = make_client_app(Residence(world, folder), SharedArray)
        grid = FaultyGrid(client_app, NUM_CLIENTS, RUN_ID, choose=choose)
        auditor = Auditor(server, grid)
        try:
            make_server_app(server)(grid, new_context(RUN_ID, 0))
        finally:
            counts["injected"] += len(grid.injected)
            counts["wrong"] += auditor.wrong

    honest = ENGINES["inprocess"]
    ENGINES["inprocess"] = Engine(SharedArray, run)
    try:
        while counts["injected"] < num_faults:
            counts["died"] += not _survives(tiny_config(ROUNDS_PER_RUN, seed))
            seed += 1
    finally:
        ENGINES["inprocess"] = honest
    return counts


def _survives(config: FederateConfig) -> bool:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        try:
            run_federated(config, tiny_world(), RunFolder(Path(folder)))
        except Exception:
            return False
    return True


def final_hash(folder: Path, *, resume: bool, on_round: Callable[[Row], None] | None = None) -> str:
    """Weights at the end of a run over the tiny world, which may go on from its last round."""
    config = replace(tiny_config(KILLED_ROUNDS), resume=resume)
    result = run_federated(config, tiny_world(), RunFolder(folder), on_round=on_round)
    return state_sha256(result.state_dict)


def kill_and_resume(num_kills: int, seed: int = 0) -> dict[str, int]:
    """Kills runs at random moments and resumes them; needs a process without threads to fork.

    A moment is a call or return in the program, all equally likely, so that the short spells of
    writing are hit as often as they deserve however busy the machine is.

    Returns:
        Counts of runs killed, and of those that ended with the same weights as one that nobody
        disturbed.
    """
    rng = np.random.default_rng(seed)
    torch.set_num_threads(1)
    killed = identical = 0
    with tempfile.TemporaryDirectory(dir=SCRATCH) as base:
        expected = final_hash(Path(base) / "calm", resume=False)
        with _Moments() as calm:
            final_hash(Path(base) / "counted", resume=False)
        while killed < num_kills:
            folder = Path(base) / f"run{killed}"
            _run_and_kill(folder, int(rng.integers(1, calm.count)))
            killed += 1
            identical += final_hash(folder, resume=True) == expected
    return {"killed": killed, "identical": identical}


class _Moments:
    """Counts calls and returns; at the last one the process kills itself."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self._last = 0, last

    def __enter__(self) -> "_Moments":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, *_: object) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_and_kill(folder: Path, moment: int) -> None:
    """Starts a run in a child process that is killed at that moment.

    Raises:
        RuntimeError: The run ended before it.
    """
    child = os.fork()
    if child == 0:
        with _Moments(moment):
            final_hash(folder, resume=False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"the run ended before it could be killed at moment {moment}")


def tables(config: BenchConfig) -> list[dict[str, Any]]:
    """Rows with `figure`, `value`, `unit` and `target`; 240 faults and 10 kills a repeat."""
    faults = in_own_process("pchmr.bench.faults", "inject", 240 * config.repeats)
    kills = in_own_process("pchmr.bench.faults", "kill_and_resume", 10 * config.repeats)
    same = f"of {kills['killed']} identical"
    return [
        {"figure": "kinds of faults", "value": faults["kinds"], "unit": "kinds", "target": None},
        {"figure": "faults", "value": faults["injected"], "unit": "injected", "target": ">= 1000"},
        {"figure": "wrong aggregates", "value": faults["wrong"], "unit": "rounds", "target": "0"},
        {"figure": "runs died", "value": faults["died"], "unit": "runs", "target": "0"},
        {"figure": "kill -9, resume", "value": kills["identical"], "unit": same, "target": "all"},
    ]
