"""The same rounds of ten clients on both engines, and Flower's own FedAvg on ray, side by side."""

import os
import time
from functools import partial
from importlib.util import find_spec

import numpy as np

from pchmr.bench.federated import (
    CLIENTS_PER_ROUND,
    TARGETS,
    WARM_UP,
    family_cpu_seconds,
    in_own_process,
    weights,
)
from pchmr.config import BenchConfig
from pchmr.federated.flower.ray_engine import simulate, started
from pchmr.federated.flower.stock_app import stock_client, stock_server
from pchmr.progress import say
from pchmr.results import ResultRow, Target, figure

ATTEMPTS = 3  # ray gives up starting after 30 seconds on a busy machine
MOST_OVER_STOCK = 1.2


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of both engines and their ratios; none where ray is not installed."""
    if not find_spec("ray"):
        say("ray is not installed: pip install 'pchmr[ray]' to compare with it")
        return []
    return [row for millions in TARGETS for row in _compared(millions, config.repeats)]


def measure_stock_rounds(millions: int, num_rounds: int) -> dict[str, float]:
    """Rounds of Flower's FedAvg, as it comes, on ray; medians of CPU and wall seconds a round."""
    cpu, wall = [], []

    def note() -> float:
        cpu.append(family_cpu_seconds())
        wall.append(time.perf_counter())
        return cpu[-1]

    made = partial(weights, millions)
    server = stock_server(made, note, CLIENTS_PER_ROUND, num_rounds, lambda context, noted: None)
    with started(os.cpu_count() or 1):
        simulate(server, stock_client(made), CLIENTS_PER_ROUND)
    return {
        "cpu_seconds": float(np.median(np.diff(cpu)[WARM_UP:])),
        "wall_seconds": float(np.median(np.diff(wall)[WARM_UP:])),
    }


def _compared(millions: int, repeats: int) -> list[ResultRow]:
    """Both engines at one size, Flower's own rounds, and the ratios."""
    rounds = repeats + WARM_UP
    found = {
        engine: _tried("pchmr.bench.federated", "measure_rounds", millions, 10, rounds, engine)
        for engine in ("inprocess", "ray")
    }
    stock = _tried(__name__, "measure_stock_rounds", millions, rounds)
    said, rows = f"{millions} M weights, 10 clients", []
    for unit, key in (("CPU-s", "cpu_seconds"), ("s", "wall_seconds")):
        for engine, values in found.items():
            rows.append(figure(f"round on {engine}, {said}, {key}", round(values[key], 3), unit))
        label = f"round of Flower's FedAvg on ray, {said}, {key}"
        rows.append(figure(label, round(stock[key], 3), unit))
        for label, ratio, target in (
            ("ray over in-process", found["ray"][key] / found["inprocess"][key], Target(">=", 8)),
            (
                "ours over Flower's FedAvg, both on ray",
                found["ray"][key] / stock[key],
                Target("<=", MOST_OVER_STOCK),
            ),
        ):
            rows.append(figure(f"{label}, {said}, {key}", round(ratio, 3), "x", target))
    label = f"round on ray, {said}, peak memory of the server's process"
    rows.append(figure(label, round(found["ray"]["peak_gb"], 3), "GB"))
    return rows


def _tried(module: str, function: str, *arguments: int | str) -> dict[str, float]:
    """What rounds cost, in a process of their own.

    Raises:
        RuntimeError: They failed again and again.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return in_own_process(module, function, *arguments)
        except RuntimeError:
            say(f"{function} failed; once more")
    return in_own_process(module, function, *arguments)
