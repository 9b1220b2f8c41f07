"""Breaks replies, drops them, kills runs, and counts what federation made of it.

Clients of a tiny world answer honestly; a grid in between tampers with some replies. After every
round the model must equal the mean of the replies that were left alone, computed here anew, or be
unchanged where too few were left. Then runs of several algorithms are killed with SIGKILL at random
moments and must resume to the same weights, bit for bit; after some kills a file of the newest
checkpoint is cut short or one of its bits turned, and the run must go on from the one before, or
say that none is whole.
"""

import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pchmr.bench.federated import NoLosses, NoPeople, in_own_process
from pchmr.bench.tampering import FAULTS, HARMLESS, Attempt, FaultyGrid
from pchmr.config import BenchConfig, FederateConfig, OptimOptions, SettingError
from pchmr.federated import Engine, Gate, Training, World, run_federated
from pchmr.federated.flower.api import SharedArray, new_context
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.engines import RUN_ID
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server import Server
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.outcome import Row
from pchmr.results import ResultRow, Target, figure
from pchmr.runs import RunFolder, state_sha256
from pchmr.runs.checkpoints import CHECKPOINTS

NUM_CLIENTS, CLIENTS_PER_ROUND, ROWS = 12, 6, 96
ROUNDS_PER_RUN, KILLED_ROUNDS = 25, 20
BATCH_SIZE = 4
FAULT_SHARE = 0.4
KILLED_ALGORITHMS = ("fedavg", "scaffold", "fedadam", "fednova")
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


def inject(num_faults: int, seed: int = 0, gate: Gate | None = None) -> dict[str, int]:
    """Runs federations with broken replies until so many faults were injected.

    Args:
        num_faults: Replies to break.
        seed: Of the choice of faults and the runs.
        gate: In place of the usual one.

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

    engine = Engine(SharedArray, run)
    while counts["injected"] < num_faults:
        counts["died"] += not _survives(tiny_config(ROUNDS_PER_RUN, seed), engine, gate)
        seed += 1
    return counts


def _survives(config: FederateConfig, engine: Engine, gate: Gate | None) -> bool:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        try:
            run_federated(config, tiny_world(), RunFolder(Path(folder)), engine=engine, gate=gate)
        except Exception:
            return False
    return True


def final_hash(
    folder: Path,
    *,
    resume: bool,
    algorithm: str = "fedavg",
    on_round: Callable[[Row], None] | None = None,
) -> str:
    """Weights at the end of a run over the tiny world, which may go on from its last round."""
    config = replace(tiny_config(KILLED_ROUNDS), resume=resume, algorithm=algorithm)
    result = run_federated(config, tiny_world(), RunFolder(folder), on_round=on_round)
    return state_sha256(result.state_dict)


@dataclass(frozen=True)
class _Calm:
    """A run that nobody disturbed: its last weights, and how many moments it has."""

    sha256: str
    num_moments: int

    @classmethod
    def of(cls, base: Path, algorithm: str) -> "_Calm":
        folder = base / f"calm-{algorithm}"
        expected = final_hash(folder, resume=False, algorithm=algorithm)
        with _Moments() as calm:
            final_hash(folder, resume=False, algorithm=algorithm)
        return cls(expected, calm.count)


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
    identical = 0
    with tempfile.TemporaryDirectory(dir=SCRATCH) as base:
        calm = {name: _Calm.of(Path(base), name) for name in KILLED_ALGORITHMS[:num_kills]}
        for number, name in zip(range(num_kills), cycle(calm), strict=False):
            folder = Path(base) / f"run{number}"
            _run_and_kill(folder, int(rng.integers(1, calm[name].num_moments)), name)
            identical += final_hash(folder, resume=True, algorithm=name) == calm[name].sha256
    return {"killed": num_kills, "identical": identical}


def damage_and_resume(num_damages: int, seed: int = 0) -> dict[str, int]:
    """Kills runs, damages the newest checkpoint of each, and resumes them.

    Returns:
        Counts of files damaged, of runs that ended with the same weights as one that nobody
        disturbed, and of runs that said that no checkpoint is whole.
    """
    rng = np.random.default_rng(seed)
    torch.set_num_threads(1)
    counts = {"damaged": 0, "identical": 0, "refused": 0}
    with tempfile.TemporaryDirectory(dir=SCRATCH) as base:
        calm = _Calm.of(Path(base), "fedavg")
        while counts["damaged"] < num_damages:
            folder = Path(tempfile.mkdtemp(dir=base))
            _run_and_kill(folder, int(rng.integers(1, calm.num_moments)))
            manifests = sorted((folder / CHECKPOINTS).glob("round_*.json"))
            if not manifests:  # killed before the first round was over
                continue
            damaged = manifests[-1]
            if rng.random() < 0.5:
                damaged = damaged.with_suffix(".safetensors")
            _damage(damaged, rng)
            counts["damaged"] += 1
            try:
                counts["identical"] += final_hash(folder, resume=True) == calm.sha256
            except SettingError:
                counts["refused"] += len(manifests) == 1
    return counts


def _damage(path: Path, rng: np.random.Generator) -> None:
    """Cuts a file short or turns one of its bits."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if rng.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


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


def _run_and_kill(folder: Path, moment: int, algorithm: str = "fedavg") -> None:
    """Starts a run in a child process that is killed at that moment.

    Raises:
        RuntimeError: The run ended before it.
    """
    child = os.fork()
    if child == 0:
        with _Moments(moment):
            final_hash(folder, resume=False, algorithm=algorithm)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"the run ended before it could be killed at moment {moment}")


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `faults`; per repeat 240 faults, 10 kills."""
    faults = in_own_process("pchmr.bench.faults", "inject", 240 * config.repeats)
    kills = in_own_process("pchmr.bench.faults", "kill_and_resume", 10 * config.repeats)
    damage = in_own_process("pchmr.bench.faults", "damage_and_resume", 10 * config.repeats)
    whole = damage["identical"] + damage["refused"]
    same, told = f"of {kills['killed']} identical", f"of {damage['damaged']} identical or told"
    none = Target("==", 0)
    return [
        figure("kinds of faults", faults["kinds"], "kinds"),
        figure("faults", faults["injected"], "injected", Target(">=", 1000)),
        figure("wrong aggregates", faults["wrong"], "rounds", none),
        figure("runs died", faults["died"], "runs", none),
        figure("kill -9, resume", kills["identical"], same, _all(kills["killed"])),
        figure("damaged checkpoint", whole, told, _all(damage["damaged"])),
    ]


def _all(number: int) -> Target:
    """Every one of so many."""
    return Target("==", number, "all")
