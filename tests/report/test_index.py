"""The sentences that open a folder of results: made of rows, misses beside hits, never typed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pchmr.data.synthetic import current_origin
from pchmr.recipes import BENCHES
from pchmr.report.editions import EDITION
from pchmr.report.index import ABOUT_CLIENTS, QUESTIONS
from pchmr.report.results import name_of, pages_of, sentences_of, write_results
from pchmr.workshop.retire import retire

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str, *lines: dict[str, Any]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def said(folder: Path) -> dict[str, tuple[str, bool | None]]:
    return {one.about: (one.found.words, one.found.met) for one in sentences_of(folder)}


def test_without_rows_each_of_ten_names_the_benchmark_that_answers(tmp_path: Path) -> None:
    found = said(tmp_path)
    assert len(found) == 10
    for about, bench, _ in QUESTIONS:
        words, met = found[about]
        assert f"`pchmr bench {bench}`" in words and met is None
        assert bench in BENCHES


@pytest.mark.parametrize(
    ("value", "words", "met"),
    [
        (30, "2 of 2 targets are met.", True),
        (70, "1 of 2 targets are met; farthest off is slow: 70 ms (target <= 35).", False),
    ],
)
def test_targets_are_counted_and_the_worst_miss_is_named(
    tmp_path: Path, value: float, words: str, met: bool
) -> None:
    line = {"table": "body", "unit": "ms", "target": "<= 35"}
    quick = {"figure": "quick", "value": 36 if not met else 1, **line, "target": "<= 36"}
    write(tmp_path, "speed", quick, {"figure": "slow", "value": value, **line})
    assert said(tmp_path)["Speed and size"] == (words, met)
    index = pages_of(tmp_path)["README.md"]
    mark = " Met." if met else " **Missed.**"
    assert f"{words}{mark} ([body](tables/speed-body.md))" in index
    assert f"[body](tables/speed-body.md) ({1 + met} met, {1 - met} missed)" in index


@pytest.mark.parametrize(
    ("worst", "num_seeds", "met"), [(80, 3, True), (90, 3, False), (80, 2, None)]
)
def test_what_one_s_own_network_brings_the_worst_off(
    tmp_path: Path, worst: float, num_seeds: int, met: bool | None
) -> None:
    rows = [
        {"id": name, "label": name, "table": "xs", "seed": seed}
        | {"scores": {"own_worst_decile_mm": value, "choosing_mm": value}}
        for seed in range(num_seeds)
        for name, value in (("global", 100.0), ("tuned", worst + seed / 5))
    ]
    write(tmp_path, "pfl", *rows)
    words, judged = said(tmp_path)["Models of one's own"]
    assert "lower with tuned than with one network for all (target 15" in words
    assert f"the worst decile is +{100 - worst - (num_seeds - 1) / 10:.1f}" in words
    assert judged is met


def test_what_single_updates_and_sums_tell(tmp_path: Path) -> None:
    rows = [
        {
            "label": f"full model, {view}: shape, top1",
            "id": f"full-model-{name}-shape-top1",
            "table": "audit",
            "scores": {"value": value, "chance": 0.1},
        }
        for view, name, value in (
            ("plain", "plain", 0.9),
            ("secure, cohort 10", "secure-cohort-10", 0.2),
        )
    ]
    write(tmp_path, "audit", *rows)
    words, met = said(tmp_path)["What updates tell"]
    assert "90 % of cases by single updates" in words and "20 % by sums of ten" in words
    assert "chance: 10 %" in words and met is None


def test_ids_of_the_audit_are_those_that_its_benchmark_writes() -> None:
    from pchmr.bench.audit import row
    from pchmr.privacy.audit.evidence import ServerView
    from pchmr.privacy.audit.figures import Figure

    figure = Figure(
        attack="shape",
        name="top1",
        value=0.5,
        interval=(0.4, 0.6),
        chance=0.1,
        ceiling=None,
        unit="share",
        n=3,
        means="it",
    )
    ids = [row(figure, ServerView(n, 10), "all", "full model").id for n in ("plain", "secure")]
    assert ids == ["full-model-plain-shape-top1", "full-model-secure-cohort-10-shape-top1"]


def test_every_link_of_the_index_leads_to_a_page() -> None:
    pages = pages_of(ROOT / "results")
    links = re.findall(r"\]\(([^)]+)\)", pages["README.md"])
    assert len(links) > 20
    assert all(link in pages or (ROOT / "results" / link).is_file() for link in links)
    assert len(pages["README.md"].splitlines()) < 50


def test_findings_open_with_ten_sentences() -> None:
    opening = pages_of(ROOT / "results")["findings.md"].partition("How runs are compared")[0]
    told = re.findall(r"^- \*\*(.+?)\.\*\* ", opening, re.MULTILINE)
    assert told == [about for about, _, _ in ABOUT_CLIENTS] and len(told) == 10
    assert all(bench in BENCHES for _, bench, _ in ABOUT_CLIENTS)


def test_what_is_not_measured_anew_is_told_of_earlier_people(tmp_path: Path) -> None:
    """What was set aside is not out of date in its folder, and answers until others do."""
    quick = {"figure": "quick", "table": "body", "value": 1, "unit": "ms", "target": "<= 35"}
    write(tmp_path, "speed", quick | {"recipe": {"worlds": current_origin()["worlds"]}})
    kept = retire("v1", tmp_path)
    assert not (tmp_path / "speed.jsonl").exists()
    edition = json.loads((kept / EDITION).read_text())
    assert edition["worlds"] == current_origin()["worlds"] and "tore_xs" in edition["starts"]
    (kept / EDITION).write_text(json.dumps({"worlds": {"A": "0" * 64}}))
    old = quick | {"recipe": {"worlds": {"A": "0" * 64}}}
    write(kept, "speed", old)
    index = write_results(tmp_path).read_text()
    assert "(`pchmr bench speed`). On those of v1: 1 of 1 targets are met." in index
    assert "([body](v1/tables/speed-body.md))" in index and "stale" not in index
    write_results(kept)
    assert "stale" not in (kept / "tables" / "speed-body.md").read_text()
    write(tmp_path, "speed", old)  # beside today's people it is
    assert "stale" in pages_of(tmp_path)[name_of("speed: body")]
    write(tmp_path, "speed", quick)
    assert "v1: 1 of 1" not in write_results(tmp_path).read_text()


def test_pages_of_tables_that_are_gone_go_too(tmp_path: Path) -> None:
    write(tmp_path, "old", {"figure": "x", "value": 1})
    write(tmp_path, "new", {"figure": "x", "value": 1})
    write_results(tmp_path)
    (tmp_path / "tables/notes.md").write_text("My own notes.\n")
    (tmp_path / "old.jsonl").unlink()
    write_results(tmp_path)
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {"new.md", "notes.md"}
    assert not (tmp_path / name_of("old")).exists()
