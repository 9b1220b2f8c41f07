"""The page's content, gathered from runs, and its template filled in."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pchmr.examples import VIEWS, draw, read_examples
from pchmr.report import paper
from pchmr.report.figures import Curve, curves
from pchmr.report.records import SCORES, RunRecord, number
from pchmr.report.results import TEXT_COLUMNS, pictures, tables_of
from pchmr.report.tables import (
    ABSENT,
    Comparison,
    compare,
    human_bytes,
    human_seconds,
    started_from,
    variant_labels,
)

HASH_LENGTH = 16
WEB = "pchmr.web"
MEDIA = {".svg": "image/svg+xml", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class SheetRow:
    """An example of the contact sheet: pictures as data addresses, in the order of the views."""

    rank: str
    index: int
    error_mm: float
    pictures: list[str]


@dataclass(frozen=True)
class RunPart:
    """What the page says about one run."""

    title: str
    folder: str
    unfinished: bool
    sheet: list[SheetRow]
    facts: list[tuple[str, str]]
    config: str


@dataclass(frozen=True)
class Section:
    """A comparison with its curves and its runs."""

    comparison: Comparison
    curves: list[Curve]
    runs: list[RunPart]


def render(
    records: list[RunRecord], current: Mapping[str, str], more: Sequence[Markup] = ()
) -> str:
    """The whole page as one HTML document that asks for no other file.

    Runs on other worlds than the `current` ones are marked; `more` are sections that follow.
    """
    sections = [_section(comparison) for comparison in compare(records, current)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            more=more,
            scores=SCORES,
            views=VIEWS,
            paper=paper,
            absent=ABSENT,
            num_runs=len(records),
            style=Markup(resources.files(WEB).joinpath("style.css").read_text(encoding="utf-8")),
            safe=Markup,
        )
    )


def results_section(folder: Path) -> Markup:
    """The tables, curves and contact sheets of a folder of `pchmr bench`, as a section."""
    shown = [
        {"name": path.stem, "address": _address(MEDIA[path.suffix], path.read_bytes())}
        for path in pictures(folder)
    ]
    page = _environment().get_template("results.html.j2")
    tables = tables_of(folder)
    return Markup(
        page.render(folder=folder.name, tables=tables, pictures=shown, texts=TEXT_COLUMNS)
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pchmr", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(comparison: Comparison) -> Section:
    labels = variant_labels(comparison.records)
    runs = [_run_part(record, labels[record.variant]) for record in comparison.records]
    return Section(comparison, curves(comparison), runs)


def _run_part(record: RunRecord, title: str) -> RunPart:
    examples = read_examples(record.path)
    sheet = [
        SheetRow(p.rank, p.index, p.error_mm, [_data_address(tile) for tile in p.tiles])
        for p in (draw(examples) if examples else ())
    ]
    return RunPart(
        title=title,
        folder=record.path.name,
        unfinished=not record.finished,
        sheet=sheet,
        facts=_facts(record),
        config=json.dumps(record.config, indent=2),
    )


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """What one needs to run it again and to believe it, in reading order; unknown ones left out."""
    summary, environment = record.summary, record.environment
    start = record.recorded("started_from")
    packages = environment.get("packages")
    facts: dict[str, Any] = {
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


def _machine(environment: dict[str, Any]) -> str:
    parts = [str(environment[k]) for k in ("system", "machine") if environment.get(k)]
    count = environment.get("cpu_count")
    return ", ".join([*parts, f"{count} cores"] if count else parts)


def _listed(packages: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _short_hash(value: Any) -> str | None:
    return f"sha256 {str(value)[:HASH_LENGTH]}" if value else None


def _data_address(tile: np.ndarray) -> str:
    """A PNG of at most 256 colors as a data address: a fifth of the bytes, no visible loss."""
    buffer = io.BytesIO()
    image = Image.fromarray(tile).quantize(256, method=Image.Quantize.FASTOCTREE)
    image.save(buffer, format="PNG", optimize=True)
    return _address("image/png", buffer.getvalue())


def _address(media: str, content: bytes) -> str:
    return f"data:{media};base64," + base64.b64encode(content).decode()
