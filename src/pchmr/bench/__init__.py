"""Measures what the project promises, and appends one JSON line per figure to `results/`.

A benchmark is a module with `tables(config) -> rows`, each with `figure`, `value`, `unit` and
`target`; commit, versions and hardware are added here. Times are process CPU seconds on one thread.
Rows go to `speed.jsonl`, or to the `FILE` of the module. One with `run(config)` writes files of its
own, row by row, and goes on where it was stopped.
"""

import json
import os
import platform
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from pchmr.config import BenchConfig, SettingError
from pchmr.progress import say
from pchmr.recipes import BENCHES
from pchmr.report.results import write_results
from pchmr.runs import environment


def run(config: BenchConfig) -> Path:
    """Runs a named benchmark on one thread and appends its rows.

    Raises:
        SettingError: There is no benchmark of that name.
    """
    if config.name not in BENCHES:
        raise SettingError(f"unknown benchmark {config.name}; known: {', '.join(sorted(BENCHES))}")
    import torch

    torch.set_num_threads(1)
    path = config.output
    for part in BENCHES[config.name]:
        module = import_module(f"pchmr.bench.{part}")
        say(f"measuring {part}")
        if hasattr(module, "run"):
            path = module.run(config)
            continue
        path = config.output / f"{getattr(module, 'FILE', 'speed')}.jsonl"
        rows = list(stamped(part, module.tables(config)))
        append(path, rows)
        for row in rows:
            say(_line(row))
    write_results(config.output)
    return path


def _line(row: dict[str, Any]) -> str:
    """A row for the person who waits."""
    scores = row["scores"] if "scores" in row else {"value": row["value"]}
    numbers = ", ".join(_shown(name, value) for name, value in scores.items())
    target = f" (target {row['target']})" if "target" in row else ""
    return f"  {row.get('figure', row.get('cell'))}: {numbers} {row.get('unit', '')}{target}"


def _shown(name: str, value: float) -> str:
    return f"{value}" if name == "value" else f"{name} {value}"


def stamped(table: str, rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Rows with commit, versions, hardware, time and recipe.

    The recipe is that of every rendered domain, where a row does not name its own.
    """
    from pchmr.data.synthetic import current_origin

    about, recipe = environment(), current_origin()
    hardware = {"cpu": cpu_name(), "cpu_count": os.cpu_count(), "threads": 1}
    for row in rows:
        yield {
            "table": table,
            "recipe": recipe,
            **row,
            "commit": about["commit"],
            "packages": about["packages"],
            "hardware": hardware,
            "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def cpu_name() -> str:
    """Model of the processor where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends rows, one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
