"""The page's content, gathered from runs, and its template filled in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pchmr.config.options import PRIVATE_DATA
from pchmr.report import paper
from pchmr.report.figures import Curve, curves, difference_bars
from pchmr.report.files import read_bytes
from pchmr.report.headline import Sentence, differences, headline
from pchmr.report.records import SCORES, Plain, RunRecord, number
from pchmr.report.results import TEXT_COLUMNS, notes_of, pictures, sentences_of, short, tables_of
from pchmr.report.sheets import Sheet, address, sheets
from pchmr.report.tables import (
    ABSENT,
    Comparison,
    compare,
    human_bytes,
    human_seconds,
    started_from,
    variant_labels,
)
from pchmr.results import slug

HASH_LENGTH = 16
WEB = "pchmr.web"
MEDIA = {".svg": "image/svg+xml", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class RunPart:
    """What the page says about one run."""

    title: str
    folder: str
    unfinished: bool
    facts: list[tuple[str, str]]
    config: str


@dataclass(frozen=True)
class Section:
    """A comparison: what it found in sentences and in bars, its curves, people and runs."""

    comparison: Comparison
    headline: list[Sentence]
    bars: Curve | None
    curves: list[Curve]
    sheets: list[Sheet]
    runs: list[RunPart]


def render(
    records: list[RunRecord],
    current: Mapping[str, str],
    more: Sequence[Markup] = (),
    *,
    with_pictures: bool = False,
) -> str:
    """The whole page as one HTML document that asks for no other file.

    Runs on other worlds than the `current` ones are marked; `more` are sections that follow.
    Pictures and meshes of people who stood before a camera are shown `with_pictures` only.
    """
    sections = [_section(comparison, with_pictures) for comparison in compare(records, current)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            more=more,
            scores=SCORES,
            paper=paper,
            absent=ABSENT,
            num_runs=len(records),
            holds=_holds(sections),
            style=Markup(resources.files(WEB).joinpath("style.css").read_text(encoding="utf-8")),
            safe=Markup,
        )
    )


def results_section(folder: Path) -> Markup:
    """The tables, curves and contact sheets of a folder of `pchmr bench`, as a section."""
    shown = [
        {"name": path.stem, "address": address(MEDIA[path.suffix], content)}
        for path in pictures(folder)
        if (content := read_bytes(folder, path.relative_to(folder).as_posix())) is not None
    ]
    page = _environment().get_template("results.html.j2")
    return Markup(
        page.render(
            folder=folder.name,
            notes=notes_of(folder),
            sentences=sentences_of(folder),
            tables=tables_of(folder),
            short=short,
            slug=slug,
            pictures=shown,
            texts=TEXT_COLUMNS,
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pchmr", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _holds(sections: list[Section]) -> str:
    """What of people is in the page, in words, counted in it."""
    held = [sheet for section in sections for sheet in section.sheets]
    private = sum(len(sheet.rows) for sheet in held if sheet.private)
    rendered = sum(len(sheet.rows) for sheet in held if not sheet.private)
    if private:
        return f"This page holds pictures of people: {private} examples, with their meshes."
    told = "This page holds no picture and no mesh of a person who stood before a camera"
    return f"{told}; {rendered} examples are of rendered people." if rendered else f"{told}."


def _section(comparison: Comparison, with_pictures: bool) -> Section:
    names = variant_labels(comparison.records)
    labels = [names[record.variant] for record in comparison.records]
    found = differences(comparison)
    shown = [
        (record, label)
        for record, label in zip(comparison.records, labels, strict=True)
        if with_pictures or not record.is_private
    ]
    return Section(
        comparison=comparison,
        headline=headline(comparison, found),
        bars=difference_bars(found) if len(found) > 1 else None,
        curves=curves(comparison),
        sheets=sheets(*zip(*shown, strict=True)) if shown else [],
        runs=[
            _run_part(record, label)
            for record, label in zip(comparison.records, labels, strict=True)
        ],
    )


def _run_part(record: RunRecord, title: str) -> RunPart:
    config = _placeless(record.config) if record.is_private else record.config
    return RunPart(
        title=title,
        folder=record.path.name,
        unfinished=not record.finished,
        facts=_facts(record),
        config=json.dumps(config, indent=2),
    )


def _placeless(value: object) -> object:
    """A config without places on the disk: absolute paths become names (runs of version 0.1)."""
    if isinstance(value, dict):
        return {
            name: None if name == "data" and not _is_hash(held) else _placeless(held)
            for name, held in value.items()
        }
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _is_hash(data: object) -> bool:
    return str(data).startswith(PRIVATE_DATA)


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """What one needs to run it again and to believe it, in reading order; unknown ones left out."""
    summary, environment = record.summary, record.environment
    start = record.recorded("started_from")
    packages = environment.get("packages")
    facts: dict[str, object] = {
        "Seed": record.settings.get("seed"),
        "Started from": started_from([record]),
        "Start weights": _short_hash(start.get("sha256")) if isinstance(start, dict) else None,
        "Final weights": _short_hash(summary.get("model_sha256")),
        "Training people": _short_hash(summary.get("train_set_sha256")),
        "Test people": _short_hash(summary.get("test_set_sha256")),
        "Recipe": "; ".join(f"{name} {_short_hash(sha)}" for name, sha in record.worlds.items()),
        "Body": _short_hash(summary.get("body_sha256")),
        "Partition": _short_hash(summary.get("partition_sha256")),
        "Time": human_seconds(number(summary.get("seconds"))),
        "Sent up": human_bytes(number(summary.get("bytes_up"))),
        "Sent down": human_bytes(number(summary.get("bytes_down"))),
        "Machine": _machine(environment),
        "Versions": _listed(packages) if isinstance(packages, dict) else None,
        "Commit": environment.get("commit"),
        "Started at": environment.get("started"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", ABSENT)]


def _machine(environment: Plain) -> str:
    parts = [str(environment[k]) for k in ("system", "machine") if environment.get(k)]
    count = environment.get("cpu_count")
    return ", ".join([*parts, f"{count} cores"] if count else parts)


def _listed(packages: Plain) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _short_hash(value: object) -> str | None:
    return f"sha256 {str(value)[:HASH_LENGTH]}" if value else None
