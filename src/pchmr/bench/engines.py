"""The same rounds of ten clients on both engines, side by side."""

from importlib.util import find_spec
from typing import Any

from pchmr.bench.federated import TARGETS, WARM_UP, in_own_process
from pchmr.config import BenchConfig
from pchmr.progress import say

ATTEMPTS = 3  # ray gives up starting after 30 seconds on a busy machine


def tables(config: BenchConfig) -> list[dict[str, Any]]:
    """Rows with `figure`, `value`, `unit` and `target`; none where ray is not installed."""
    if not find_spec("ray"):
        say("ray is not installed: pip install 'pchmr[ray]' to compare with it")
        return []
    return [row for millions in TARGETS for row in _compared(millions, config.repeats)]


def _compared(millions: int, repeats: int) -> list[dict[str, Any]]:
    """Both engines at one size, and their ratio."""
    found = {engine: _round(engine, millions, repeats) for engine in ("inprocess", "ray")}
    said, rows = f"{millions} M weights, 10 clients", []
    for unit, key in (("CPU-s", "cpu_seconds"), ("s", "wall_seconds")):
        ratio = found["ray"][key] / found["inprocess"][key]
        for engine, values in found.items():
            figure = f"round on {engine}, {said}, {key}"
            rows.append({"figure": figure, "value": round(values[key], 3), "unit": unit})
        figure = f"ray over in-process, {said}, {key}"
        rows.append({"figure": figure, "value": round(ratio, 3), "unit": "x", "target": ">= 8"})
    return [{"target": None} | row for row in rows]


def _round(engine: str, millions: int, repeats: int) -> dict[str, float]:
    """What a round costs, in a process of its own.

    Raises:
        RuntimeError: It failed again and again.
    """
    arguments = (
        "pchmr.bench.federated", "measure_rounds", millions, 10, repeats + WARM_UP, engine
    )  # fmt: skip
    for _ in range(ATTEMPTS - 1):
        try:
            return in_own_process(*arguments)
        except RuntimeError:
            say(f"{engine} failed; once more")
    return in_own_process(*arguments)
