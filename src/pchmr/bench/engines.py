"""The same rounds of ten clients on both engines, side by side."""

from importlib.util import find_spec

from pchmr.bench.federated import TARGETS, WARM_UP, in_own_process
from pchmr.config import BenchConfig
from pchmr.progress import say
from pchmr.results import ResultRow, Target, figure

ATTEMPTS = 3  # ray gives up starting after 30 seconds on a busy machine


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of both engines and their ratios; none where ray is not installed."""
    if not find_spec("ray"):
        say("ray is not installed: pip install 'pchmr[ray]' to compare with it")
        return []
    return [row for millions in TARGETS for row in _compared(millions, config.repeats)]


def _compared(millions: int, repeats: int) -> list[ResultRow]:
    """Both engines at one size, and their ratio."""
    found = {engine: _round(engine, millions, repeats) for engine in ("inprocess", "ray")}
    said, rows = f"{millions} M weights, 10 clients", []
    for unit, key in (("CPU-s", "cpu_seconds"), ("s", "wall_seconds")):
        ratio = found["ray"][key] / found["inprocess"][key]
        for engine, values in found.items():
            rows.append(figure(f"round on {engine}, {said}, {key}", round(values[key], 3), unit))
        label = f"ray over in-process, {said}, {key}"
        rows.append(figure(label, round(ratio, 3), "x", Target(">=", 8)))
    return rows


def _round(engine: str, millions: int, repeats: int) -> dict[str, float]:
    """What a round costs, in a process of its own.

    Raises:
        RuntimeError: It failed again and again.
    """
    module, function = "pchmr.bench.federated", "measure_rounds"
    arguments = (millions, 10, repeats + WARM_UP, engine)
    for _ in range(ATTEMPTS - 1):
        try:
            return in_own_process(module, function, *arguments)
        except RuntimeError:
            say(f"{engine} failed; once more")
    return in_own_process(module, function, *arguments)
