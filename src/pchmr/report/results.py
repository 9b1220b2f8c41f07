"""Tables of `results/`: generated from its JSONL files, one line a cell and seed, never typed.

A line names its `table` (else its file does), its id and label, and holds scores. Where a cell was
measured again with the same seed, the latest line counts. What cannot be read is left out and
counted; nothing is read or written through a link, and no page of somebody else is overwritten.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pchmr.config import SettingError
from pchmr.report.comparison import with_gaps
from pchmr.report.curves import budget_curves
from pchmr.report.files import files_of, inside, may_write
from pchmr.report.findings import FINDINGS, findings_markdown, read_tables
from pchmr.report.lines import RowsFile, marked, rows_in
from pchmr.report.markdown import NONE, escaped, table
from pchmr.report.records import SCORES
from pchmr.results import VALUE, Hardware, Number, ResultRow, slug
from pchmr.runs import write_bytes

README, CURVES = "README.md", "curves"
MARK = "Generated from the `.jsonl` files beside this page"
HEAD = f"""# Results

{MARK} by `pchmr bench`; do not edit. A cell is the mean
over seeds, ± the standard deviation where there are several. Figures of rendered people never
stand under the name of a licensed data set.
"""
# Columns of text that are shown where some row of the table has them.
TEXTS = {"unit": "unit", "target": "target", "paper": "paper", "differs": "what differs"}
MET, MISSED = "yes", "no"
TEXT_COLUMNS = (*TEXTS.values(), "met")


def write_results(folder: Path) -> Path:
    """Writes `README.md`, the findings and curves from the folder's JSONL files; returns its path.

    Raises:
        SettingError: A page of that name is not one of ours, or cannot be written.
    """
    for name in (README, FINDINGS):
        if not may_write(folder / name, MARK):
            raise SettingError(
                f"{folder / name} was not made by `pchmr bench`: move it, or the JSONL files"
            )
    tables = read_tables(folder)
    if tables:
        write_bytes(folder / FINDINGS, findings_markdown(folder).encode())
    for (recipe, model), rows in tables.items():
        path = folder / CURVES / f"{slug(f'{recipe}-{model}')}.svg"
        if inside(folder, path.parent):
            write_bytes(path, budget_curves(f"{recipe}: {model}", rows))
    path = folder / README
    write_bytes(path, results_markdown(folder).encode())
    return path


def results_markdown(folder: Path) -> str:
    """What `README.md` should hold; depends on the JSONL files and the pictures' names alone."""
    links = [
        f"![{path.stem}]({path.relative_to(folder).as_posix()})\n" for path in pictures(folder)
    ]
    shown = ["## Pictures\n", *links] if links else []
    notes = [f"{note}\n" for note in notes_of(folder)]
    return "\n".join([HEAD, *notes, *(_markdown(found) for found in tables_of(folder)), *shown])


@dataclass(frozen=True)
class Table:
    """A table of a folder of results: texts only, the first cell of a row names it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    origin: str


def _files(folder: Path) -> list[RowsFile]:
    return [rows_in(folder, path.stem) for path in files_of(folder, "*.jsonl")]


def notes_of(folder: Path) -> list[str]:
    """What could not be read, a sentence a file."""
    return [
        f"{file.num_unreadable} of {len(file.rows) + file.num_unreadable} lines of "
        f"`{file.name}.jsonl` are no rows of a result and are left out."
        for file in _files(folder)
        if file.num_unreadable
    ]


def tables_of(folder: Path) -> list[Table]:
    """All tables of a folder, by title."""
    held: dict[str, list[ResultRow]] = {}
    for file in _files(folder):
        for row in file.rows:
            same = row.table in (None, file.name)
            held.setdefault(file.name if same else f"{file.name}: {row.table}", []).append(row)
    return [_table(title, with_gaps(marked(held[title]))) for title in sorted(held)]


def pictures(folder: Path) -> list[Path]:
    """The curves and contact sheets beside the tables."""
    return [*files_of(folder, f"{CURVES}/*.svg"), *files_of(folder, "*.jpg")]


def _table(title: str, rows: list[ResultRow]) -> Table:
    cells: dict[str, list[ResultRow]] = {}
    for row in rows:
        cells.setdefault(row.id, []).append(row)
    measures = _ordered({name for row in rows for name in row.measures})
    texts = [name for name in TEXTS if any(getattr(row, name) for row in rows)]
    header = ["figure", *(SCORES.get(name, name) for name in measures), *(TEXTS[t] for t in texts)]
    header += ["met"] if "target" in texts else []
    lines = [_line(cell, measures, texts) for cell in cells.values()]
    return Table(title, header, lines, _origin(rows))


def _markdown(found: Table) -> str:
    shape = ["---", *("---" if name in TEXT_COLUMNS else "---:" for name in found.header[1:])]
    lines = [
        [f"**{cell}**" if cell == MISSED else escaped(cell) for cell in row] for row in found.rows
    ]
    header = [escaped(name) for name in found.header]
    return f"## {escaped(found.title)}\n\n{table(header, lines, shape)}\n\n{found.origin}\n"


def _ordered(names: Iterable[str]) -> list[str]:
    known = [*SCORES, VALUE]
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def _line(cell: list[ResultRow], measures: list[str], texts: list[str]) -> list[str]:
    """A cell over its seeds: label, means, texts, and whether the target is met."""
    found = {m: [row.measures[m] for row in cell if m in row.measures] for m in measures}
    said = [next((str(v) for row in cell if (v := getattr(row, t))), NONE) for t in texts]
    line = [cell[0].label, *(_mean(found[m]) for m in measures), *said]
    if "target" in texts:
        line.append(_met(cell, found.get(VALUE) or next(iter(found.values()), [])))
    return line


def _mean(values: list[Number]) -> str:
    if not values:
        return NONE
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def _met(cell: list[ResultRow], values: list[Number]) -> str:
    """Whether the mean keeps the target; a dash where nothing is promised or known."""
    target = next((row.target for row in cell if row.target), None)
    judged = target.judge(statistics.fmean(values)) if target and values else None
    return NONE if judged is None else MET if judged else MISSED


def _origin(rows: list[ResultRow]) -> str:
    """Commits, machines and recipes that the rows come from, each once."""
    commits = dict.fromkeys(row.commit for row in rows if row.commit)
    machines = dict.fromkeys(_machine(row.hardware) for row in rows if row.hardware)
    parts = [f"Commit {', '.join(commits)}"] if commits else []
    parts += [f"on {', '.join(machines)}"] if machines else []
    recipes = dict.fromkeys(f"{name} {sha[:8]}" for row in rows for name, sha in row.worlds.items())
    said = f"{' '.join(parts)}." if parts else "No origin was recorded."
    silent = sum(not row.worlds for row in rows)
    said += f" Recipe of people: {', '.join(recipes)}." if recipes else ""
    return said + (f" {silent} of {len(rows)} rows name no recipe." if silent else "")


def _machine(hardware: Hardware) -> str:
    threads = hardware.threads
    used = f" ({threads} thread{'' if threads == 1 else 's'})" if threads else ""
    return f"{hardware.cpu or hardware.gpu or 'unknown machine'}{used}"
