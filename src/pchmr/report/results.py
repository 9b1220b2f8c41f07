"""Pages of `results/`: an index of one screen and a page a table, generated from its JSONL files.

A line names its `table` (else its file does), its id and label, and holds scores. Where a cell was
measured again with the same seed, the latest line counts. What cannot be read is left out and
counted; nothing is read or written through a link, and no page of somebody else is overwritten.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pchmr.config import SettingError
from pchmr.recipes.comparisons import COMPARISONS
from pchmr.report.comparison import with_gaps
from pchmr.report.curves import budget_curves
from pchmr.report.editions import earlier, edition_of
from pchmr.report.files import files_of, inside, may_write
from pchmr.report.findings import FINDINGS, findings_markdown
from pchmr.report.index import QUESTIONS, SAID, Sentence, sentences
from pchmr.report.judged import read_tables
from pchmr.report.lines import RowsFile, marked, rows_in
from pchmr.report.markdown import NONE, escaped, table
from pchmr.report.records import SCORES
from pchmr.report.targets import Verdict, cells_of, in_order, judged, verdicts_of
from pchmr.results import Hardware, Number, ResultRow, slug
from pchmr.runs import write_bytes

README, TABLES, CURVES = "README.md", "tables", "curves"
MARK = "Generated from the `.jsonl` files"
HEAD = f"""# Results

{MARK} beside this page by `pchmr bench` and `pchmr report`; do not edit.
Everything is of rendered people, and no figure stands under the name of a licensed data set.
"""
TABLE_HEAD = f"""{MARK} of `results/`; do not edit. A cell is the mean over seeds, ± the standard
deviation where there are several. [All results](../README.md)
"""
# Columns of text that are shown where some row of the table has them.
TEXTS = {"unit": "unit", "target": "target", "paper": "paper", "differs": "what differs"}
MET, MISSED = "yes", "no"
TEXT_COLUMNS = (*TEXTS.values(), "met")


def write_results(folder: Path) -> Path:
    """Writes index, tables, findings and curves from the folder's JSONL files; returns the index.

    Raises:
        SettingError: A page of that name is not one of ours, or cannot be written.
    """
    pages = pages_of(folder)
    for name in pages:
        if not may_write(folder / name, MARK):
            raise SettingError(
                f"{folder / name} was not made by `pchmr bench`: move it, or the JSONL files"
            )
    _draw_curves(folder)
    pages = pages_of(folder)  # which show the pictures that are there
    for path in [*files_of(folder, f"{TABLES}/*.md"), *files_of(folder, FINDINGS)]:
        if path.relative_to(folder).as_posix() not in pages and may_write(path, MARK):
            path.unlink()
    for name, text in pages.items():
        if inside(folder, (folder / name).parent):
            write_bytes(folder / name, text.encode())
    return folder / README


def _draw_curves(folder: Path) -> None:
    """A picture of each comparison and network; those of rows that are gone go too."""
    drawn = set()
    for (recipe, model), rows in read_tables(folder).items():
        path = folder / CURVES / f"{slug(f'{recipe}-{model}')}.svg"
        drawn.add(path)
        if inside(folder, path.parent):
            write_bytes(path, budget_curves(f"{recipe}: {model}", rows))
    ours = tuple(f"{recipe}-" for recipe in COMPARISONS)
    for path in files_of(folder, f"{CURVES}/*.svg"):
        if path not in drawn and path.name.startswith(ours):
            path.unlink()


def pages_of(folder: Path) -> dict[str, str]:
    """What every page should hold, by its name; made of JSONL files and names of pictures alone."""
    found = tables_of(folder)
    pages = {README: _index(folder, found)}
    if read_tables(folder):
        pages[FINDINGS] = findings_markdown(folder)
    shown = pictures(folder)
    return pages | {name_of(one.title): _page(folder, one, shown) for one in found}


def name_of(title: str) -> str:
    """Name of a table's page."""
    return f"{TABLES}/{slug(title)}.md"


@dataclass(frozen=True)
class Table:
    """A table of a folder of results: texts only, the first cell of a row names it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    origin: str
    verdicts: list[Verdict] = field(default_factory=list)


def _index(folder: Path, found: list[Table]) -> str:
    """Ten sentences, then every table."""
    told = [_told(one) for one in sentences_of(folder)]
    notes = [f"{note}\n" for note in notes_of(folder)]
    more = f"All claims of the paper with their intervals: [{FINDINGS}]({FINDINGS}).\n"
    more = more if read_tables(folder) else ""
    files: dict[str, list[Table]] = {}
    for one in found:
        files.setdefault(one.title.partition(": ")[0], []).append(one)
    lines = [f"- {escaped(name)}: {', '.join(map(_link, held))}" for name, held in files.items()]
    older = [f"[{old.name}]({old.name}/{README})" for old in earlier(folder)]
    kept = [f"Of earlier people and start weights: {', '.join(older)}.\n"] if older else []
    told_all = "\n".join(told)
    return "\n".join([HEAD, *notes, f"{told_all}\n", more, *kept, "## All tables\n", *lines, ""])


def _told(one: Sentence) -> str:
    found = one.found
    at = f"{one.edition}/" if one.edition else ""
    is_one = len({title.partition(":")[0] for title in found.titles}) == 1
    named = {title: short(title) if is_one else title for title in found.titles}
    links = ", ".join(f"[{escaped(text)}]({at}{name_of(title)})" for title, text in named.items())
    where = f" ({links})" if links else ""
    return f"- **{one.about}.** {escaped(found.words)}{SAID[found.met]}{where}"


def short(title: str) -> str:
    """A table's name within its file."""
    return title.partition(": ")[2] or title


def _link(found: Table) -> str:
    """A link to a table, with how many of its targets are met and missed."""
    num_met = sum(verdict.is_met for verdict in found.verdicts)
    num_missed = len(found.verdicts) - num_met
    counts = f" ({num_met} met, {num_missed} missed)" if found.verdicts else ""
    return f"[{escaped(short(found.title))}]({name_of(found.title)}){counts}"


def sentences_of(folder: Path) -> list[Sentence]:
    """The sentences that open the folder's index; of an earlier edition where today's has none."""
    told = sentences(QUESTIONS, by_title(folder), read_tables(folder))
    for old in earlier(folder):
        before = sentences(QUESTIONS, by_title(old), read_tables(old))
        told = [
            two.of(old.name, one.found.words) if two.found.titles and not one.found.titles else one
            for one, two in zip(told, before, strict=True)
        ]
    return told


def _page(folder: Path, found: Table, shown: list[Path]) -> str:
    """A table with the pictures that belong to it."""
    own = [path for path in shown if path.stem.split("_")[0] == slug(found.title)]
    own += [path for path in shown if path.stem == slug(found.title)]
    links = [f"![{path.stem}](../{path.relative_to(folder).as_posix()})\n" for path in own]
    return "\n".join([f"# {escaped(found.title)}\n", TABLE_HEAD, _markdown(found), *links])


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


def by_title(folder: Path) -> Mapping[str, list[ResultRow]]:
    """All rows by the title of their table, in that order; those that are out of date say so."""
    held: dict[str, list[ResultRow]] = {}
    for file in _files(folder):
        for row in file.rows:
            same = row.table in (None, file.name)
            held.setdefault(file.name if same else f"{file.name}: {row.table}", []).append(row)
    edition = edition_of(folder)
    return {title: with_gaps(marked(held[title], edition)) for title in sorted(held)}


def tables_of(folder: Path) -> list[Table]:
    """All tables of a folder, by title."""
    return [_table(title, rows) for title, rows in by_title(folder).items()]


def pictures(folder: Path) -> list[Path]:
    """The curves and contact sheets beside the tables."""
    return [*files_of(folder, f"{CURVES}/*.svg"), *files_of(folder, "*.jpg")]


def _table(title: str, rows: list[ResultRow]) -> Table:
    cells = cells_of(rows)
    measures = in_order({name for row in rows for name in row.measures})
    texts = [name for name in TEXTS if any(getattr(row, name) for row in rows)]
    header = ["figure", *(SCORES.get(name, name) for name in measures), *(TEXTS[t] for t in texts)]
    header += ["met"] if "target" in texts else []
    lines = [_line(cell, measures, texts) for cell in cells]
    return Table(title, header, lines, _origin(rows), verdicts_of(rows))


def _markdown(found: Table) -> str:
    shape = ["---", *("---" if name in TEXT_COLUMNS else "---:" for name in found.header[1:])]
    lines = [
        [f"**{cell}**" if cell == MISSED else escaped(cell) for cell in row] for row in found.rows
    ]
    header = [escaped(name) for name in found.header]
    return f"{table(header, lines, shape)}\n\n{found.origin}\n"


def _line(cell: list[ResultRow], measures: list[str], texts: list[str]) -> list[str]:
    """A cell over its seeds: label, means, texts, and whether the target is met."""
    found = {m: [row.measures[m] for row in cell if m in row.measures] for m in measures}
    said = [next((str(v) for row in cell if (v := getattr(row, t))), NONE) for t in texts]
    line = [cell[0].label, *(_mean(found[m]) for m in measures), *said]
    if "target" in texts:
        verdict = judged(cell)
        line.append(NONE if verdict is None else MET if verdict.is_met else MISSED)
    return line


def _mean(values: list[Number]) -> str:
    if not values:
        return NONE
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


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
