"""Measures what the project promises, and appends one JSON line per figure to `results/`.

A benchmark is a module with `tables(config)` that yields rows of figures; commit, versions and
hardware are added here, once. Times are process CPU seconds on one thread. Rows go to
`speed.jsonl`, or to the `FILE` of the module. One with `run(config)` writes files of its own, row
by row, and goes on where it was stopped. Without a name the benchmarks are listed, none is run.
"""

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from pchmr.config import BenchConfig, SettingError
from pchmr.progress import say
from pchmr.recipes import BENCHES
from pchmr.report.results import write_results
from pchmr.results import MEASURED, Hardware, Number, Recipe, ResultRow
from pchmr.runs import alone, environment


@alone
def run(config: BenchConfig) -> Path | None:
    """Runs a named benchmark on one thread and appends its rows; without a name lists them all.

    Raises:
        SettingError: There is no benchmark of that name.
    """
    if not config.name:
        print(listed())
        return None
    if config.name not in BENCHES:
        raise SettingError(f"unknown benchmark {config.name}; known: {', '.join(sorted(BENCHES))}")
    import torch

    torch.set_num_threads(1)
    path = config.output
    for part in BENCHES[config.name].modules:
        module = import_module(f"pchmr.bench.{part}")
        say(f"measuring {part}")
        if hasattr(module, "run"):
            path = module.run(config)
            continue
        path = config.output / f"{getattr(module, 'FILE', 'speed')}.jsonl"
        for row in stamped(part, module.tables(config)):
            append(path, row)
            say(_line(row))
    write_results(config.output)
    return path


def listed() -> str:
    """Every benchmark with what it measures, a line each."""
    width = max(map(len, BENCHES))
    lines = [f"{name:<{width}}  {bench.about}" for name, bench in BENCHES.items()]
    return "\n".join([*lines, "", "Run one with `pchmr bench NAME`; rows go to results/."])


def _line(row: ResultRow) -> str:
    """A row for the person who waits."""
    numbers = ", ".join(_shown(name, value) for name, value in row.scores.items())
    target = "" if row.target in (None, MEASURED) else f" (target {row.target})"
    return f"  {row.label}: {numbers} {row.unit or ''}{target}"


def _shown(name: str, value: Number | None) -> str:
    return f"{value}" if name == "value" else f"{name} {value}"


UNITS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "bf16": {"avx512_bf16", "amx_bf16"},
}
"""Units of a processor by the flags that Linux tells."""


def stamped(table: str, rows: Iterable[ResultRow]) -> Iterator[ResultRow]:
    """Rows with table, commit, versions, hardware, time and recipe.

    Table and recipe are those of a row that names its own; else the recipe is that of every
    rendered domain.
    """
    from pchmr.data.synthetic import current_origin

    about, recipe = environment(), Recipe(**current_origin())
    hardware = Hardware(cpu=cpu_name(), cpu_count=os.cpu_count(), threads=1)
    for row in rows:
        yield replace(
            row,
            table=row.table or table,
            recipe=row.recipe or recipe,
            commit=about["commit"],
            packages=about["packages"],
            hardware=hardware,
            measured=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model of the processor where the system tells it, with the units that figures depend on."""
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in lines}
    flags = told.get("flags", "").split()
    units = [unit for unit, names in UNITS.items() if not names.isdisjoint(flags)]
    name = told.get("model name") or platform.processor()
    return f"{name} with {', '.join(units)}" if units else name


def append(path: Path, row: ResultRow) -> None:
    """Appends a row as one JSON line, and syncs it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row.to_json(), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
