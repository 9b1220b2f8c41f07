"""Tables of `results/`: generated from its JSONL files, one line a cell and seed, never typed.

A line names its `table` (else its file does) and its `figure` or `cell`, and holds a `value` or
several `scores`. Where a cell was measured again with the same seed, the latest line counts.
"""

import operator
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pchmr.report.comparison import with_gaps
from pchmr.report.curves import budget_curves
from pchmr.report.findings import FINDINGS, findings_markdown, read_tables
from pchmr.report.lines import Line, cell_of, lines_of, marked
from pchmr.report.records import SCORES, number, worlds_of
from pchmr.runs import write_bytes

README, CURVES = "README.md", "curves"
HEAD = """# Results

Generated from the `.jsonl` files beside this page by `pchmr bench`; do not edit. A cell is the mean
over seeds, ± the standard deviation where there are several. Figures of rendered people never
stand under the name of a licensed data set.
"""
NONE = "–"
COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
# Columns of text that are shown where some line of the table has them.
TEXTS = {"unit": "unit", "target": "target", "paper": "paper", "differs": "what differs"}
MISSED = "no"
TEXT_COLUMNS = (*TEXTS.values(), "met")
VALUE = "value"


def write_results(folder: Path) -> Path:
    """Writes `README.md`, the findings and curves from the folder's JSONL files; returns its path.

    Raises:
        InputError: A line is no JSON object with a figure or cell.
    """
    tables = read_tables(folder)
    if tables:
        write_bytes(folder / FINDINGS, findings_markdown(folder).encode())
    for (recipe, model), lines in tables.items():
        picture = budget_curves(f"{recipe}: {model}", lines)
        name = f"{recipe}-{model}".replace(" ", "-")
        write_bytes(folder / CURVES / f"{name}.svg", picture)
    path = folder / README
    write_bytes(path, results_markdown(folder).encode())
    return path


def results_markdown(folder: Path) -> str:
    """What `README.md` should hold; depends on the JSONL files and the pictures' names alone."""
    links = [
        f"![{path.stem}]({path.relative_to(folder).as_posix()})\n" for path in pictures(folder)
    ]
    shown = ["## Pictures\n", *links] if links else []
    return "\n".join([HEAD, *(_markdown(table) for table in tables_of(folder)), *shown])


@dataclass(frozen=True)
class Table:
    """A table of a folder of results: texts only, the first cell of a row names it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    origin: str


def tables_of(folder: Path) -> list[Table]:
    """All tables of a folder, by title.

    Raises:
        InputError: A line is no JSON object with a figure or cell.
    """
    held: dict[str, list[Line]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in lines_of(path):
            name = str(line.get("table", path.stem))
            title = name if name == path.stem else f"{path.stem}: {name}"
            held.setdefault(title, []).append(line)
    return [_table(title, with_gaps(marked(held[title]))) for title in sorted(held)]


def pictures(folder: Path) -> list[Path]:
    """The curves and contact sheets beside the tables."""
    return [*sorted((folder / CURVES).glob("*.svg")), *sorted(folder.glob("*.jpg"))]


def _measures(line: Line) -> dict[str, float]:
    """Named numbers of a line."""
    scores = line.get("scores")
    named = scores if isinstance(scores, dict) else {VALUE: line.get("value")}
    return {name: v for name, value in named.items() if (v := number(value)) is not None}


def _table(title: str, lines: list[Line]) -> Table:
    cells: dict[str, list[Line]] = {}
    for line in lines:
        cells.setdefault(str(cell_of(line)), []).append(line)
    measures = _ordered(
        {name for cell in cells.values() for line in cell for name in _measures(line)}
    )
    texts = [
        name for name in TEXTS if any(line.get(name) for cell in cells.values() for line in cell)
    ]
    header = ["figure", *(SCORES.get(name, name) for name in measures), *(TEXTS[t] for t in texts)]
    header += ["met"] if "target" in texts else []
    rows = [_row(name, cell, measures, texts) for name, cell in cells.items()]
    return Table(title, header, rows, _origin(lines))


def _markdown(table: Table) -> str:
    shape = ["---", *("---" if name in TEXT_COLUMNS else "---:" for name in table.header[1:])]
    escaped = [[_escaped(cell) for cell in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(row)} |" for row in (table.header, shape, *escaped))
    return f"## {table.title}\n\n{body}\n\n{table.origin}\n"


def _ordered(names: Iterable[str]) -> list[str]:
    known = [*SCORES, VALUE]
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def _escaped(cell: str) -> str:
    return f"**{cell}**" if cell == MISSED else cell.replace("|", "\\|").replace("\n", " ")


def _row(name: str, cell: list[Line], measures: list[str], texts: list[str]) -> list[str]:
    found = {m: [v for line in cell if (v := _measures(line).get(m)) is not None] for m in measures}
    said = {t: next((str(line[t]) for line in cell if line.get(t)), NONE) for t in texts}
    row = [name, *(_mean(found[m]) for m in measures), *said.values()]
    if "target" in texts:
        row.append(_met(said["target"], found.get(VALUE) or next(iter(found.values()), [])))
    return row


def _mean(values: list[float]) -> str:
    if not values:
        return NONE
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def _met(target: str, values: list[float]) -> str:
    """Whether the mean meets a target like `<= 15`; a dash where that cannot be told."""
    match = re.match(r"\s*(<=|>=|<|>)\s*([-+.\deE]+)", target)
    if not match or not values:
        return NONE
    try:
        bound = float(match[2])
    except ValueError:
        return NONE
    return "yes" if COMPARISONS[match[1]](statistics.fmean(values), bound) else MISSED


def _origin(lines: list[Line]) -> str:
    """Commits, machines and recipes that the rows come from, each once."""
    commits = dict.fromkeys(str(line["commit"]) for line in lines if line.get("commit"))
    machines = dict.fromkeys(_machine(line["hardware"]) for line in lines if line.get("hardware"))
    parts = [f"Commit {', '.join(commits)}"] if commits else []
    parts += [f"on {', '.join(machines)}"] if machines else []
    recipes = dict.fromkeys(
        f"{name} {sha[:8]}" for line in lines for name, sha in worlds_of(line.get("recipe")).items()
    )
    said = f"{' '.join(parts)}." if parts else "No origin was recorded."
    silent = sum(not worlds_of(line.get("recipe")) for line in lines)
    said += f" Recipe of people: {', '.join(recipes)}." if recipes else ""
    return said + (f" {silent} of {len(lines)} rows name no recipe." if silent else "")


def _machine(hardware: Any) -> str:
    if not isinstance(hardware, dict):
        return str(hardware)
    threads = hardware.get("threads")
    used = f" ({threads} thread{'' if threads == 1 else 's'})" if threads else ""
    return f"{hardware.get('cpu') or hardware.get('gpu') or 'unknown machine'}{used}"
