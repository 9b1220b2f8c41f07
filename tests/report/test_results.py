import json
import os
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pchmr.config import SettingError
from pchmr.data.synthetic import current_origin
from pchmr.models.checkpoint import start_path
from pchmr.recipes.cells import STARTS
from pchmr.report.editions import EDITION
from pchmr.report.findings import findings_markdown
from pchmr.report.lines import rows_in
from pchmr.report.page import results_section
from pchmr.report.results import name_of, pages_of, write_results
from pchmr.results import CurvePoint, ResultRow
from pchmr.runs import file_sha256

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str, *lines: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def page(folder: Path, title: str) -> str:
    return pages_of(folder)[name_of(title)]


def rows(folder: Path, title: str) -> list[list[str]]:
    lines = [line for line in page(folder, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_figures_with_targets(tmp_path: Path) -> None:
    machine = {"cpu": "EPYC", "threads": 1}
    about = {"table": "body", "commit": "abc", "hardware": machine}
    write(
        tmp_path,
        "speed.jsonl",
        {"figure": "forward", "value": 99.0, "unit": "CPU-ms", "target": "<= 35", **about},
        {"figure": "forward", "value": 31.26, "unit": "CPU-ms", "target": "<= 35", **about},
        {"figure": "slow", "value": 36, "unit": "CPU-ms", "target": "<= 35", **about},
        {"figure": "free", "value": 2, "unit": "a|b", "target": None, **about},
    )
    assert rows(tmp_path, "speed: body") == [
        ["figure", "value", "unit", "target", "met"],
        ["---", "---:", "---", "---", "---"],
        ["forward", "31.26", "CPU-ms", "<= 35", "yes"],
        ["slow", "36", "CPU-ms", "<= 35", "**no**"],
        ["free", "2", "a\\|b", "–", "–"],
    ]
    assert "Commit abc on EPYC (1 thread)." in page(tmp_path, "speed: body")


def test_scores_over_seeds_with_the_paper_beside(tmp_path: Path) -> None:
    base = {"cell": "10 of 10", "paper": "56.85 / 40.52", "differs": "rendered people"}
    write(
        tmp_path,
        "client_scale.jsonl",
        *(
            {**base, "seed": s, "scores": {"pa_mpjpe_mm": 60.0, "mpjpe_mm": 100.0 + s}}
            for s in (0, 1, 2)
        ),
        {"cell": "100 of 10", "seed": 0, "scores": {"mpjpe_mm": 120.0, "per_joint": [1]}},
    )
    assert rows(tmp_path, "client_scale") == [
        ["figure", "MPJPE", "PA-MPJPE", "paper", "what differs"],
        ["---", "---:", "---:", "---", "---"],
        ["10 of 10", "101 ± 1", "60 ± 0", "56.85 / 40.52", "rendered people"],
        ["100 of 10", "120", "–", "–", "–"],
    ]


def test_page_depends_on_the_lines_alone(tmp_path: Path) -> None:
    write(tmp_path / "a", "t.jsonl", {"cell": "x", "value": 1})
    write(tmp_path / "b", "t.jsonl", {"cell": "x", "value": 1})
    write_results(tmp_path / "a")
    pages = pages_of(tmp_path / "b")
    assert pages == pages_of(tmp_path / "a")
    assert {name: (tmp_path / "a" / name).read_text() for name in pages} == pages
    assert "do not edit" in pages_of(tmp_path / "empty")["README.md"]


def test_rows_on_other_people_or_start_weights_are_stale(tmp_path: Path) -> None:
    today = current_origin()
    worlds = today["worlds"]
    shipped = {"kind": "shipped", "name": "tore_xs", "sha256": "0" * 64}
    lines = [
        {"cell": "fresh", "value": 1, "recipe": today},
        {"cell": "old people", "value": 2, "recipe": {"worlds": {**worlds, "B": "1" * 64}}},
        {"cell": "old weights", "value": 3, "recipe": today, "started_from": shipped},
        {"cell": "measured anew", "value": 4, "recipe": {"worlds": {"B": "1" * 64}}},
        {"cell": "measured anew", "value": 5, "recipe": today},
        {"cell": "own weights", "value": 6, "started_from": {**shipped, "kind": "checkpoint"}},
    ]
    write(tmp_path, "t.jsonl", *lines)
    text = page(tmp_path, "t")
    assert [row[0] for row in rows(tmp_path, "t")[2:]] == [
        "fresh",
        "old people (stale: people of domain B by recipe 11111111)",
        "old weights (stale: start weights 00000000)",
        "measured anew",
        "own weights",
    ]
    assert f"B {worlds['B'][:8]}" in text and "1 of 5 rows name no recipe." in text


def test_comparisons_stand_on_earlier_start_weights_that_still_ship(tmp_path: Path) -> None:
    path = start_path("tore_xs", STARTS)
    started = {"kind": "shipped", "name": "tore_xs", "sha256": file_sha256(path)}
    about = {"recipe": current_origin(), "started_from": started}
    write(
        tmp_path,
        "t.jsonl",
        {"cell": "compared", "value": 1, "config": {"seed": 0}, **about},
        {"cell": "scored", "value": 2, **about},
    )
    compared, scored = [row[0] for row in rows(tmp_path, "t")[2:]]
    assert compared == "compared"
    assert scored == f"scored (stale: start weights {started['sha256'][:8]})"


def test_a_stale_row_confirms_no_claim(tmp_path: Path) -> None:
    people = [100.0, 110.0, 120.0]

    def line(cell: str, world: str, shift: float) -> dict[str, Any]:
        errors = [p + shift * (1 + i / 10) for i, p in enumerate(people)]
        return {
            "table": "tore_xs", "cell": cell, "seed": 0, "people_mm": errors,
            "scores": {"mpjpe_mm": sum(errors) / 3}, "recipe": {"worlds": {"B": world}},
        }  # fmt: skip

    today = current_origin()["worlds"]["B"]
    for world, said in ((today, "**confirmed, preliminary**"), ("1" * 64, "**not yet tested**")):
        write(
            tmp_path,
            "client-scale.jsonl",
            line("centralized", today, 0.0),
            line("10 of 10 clients", world, -3.0),
        )
        write_results(tmp_path)
        found = (tmp_path / "findings.md").read_text()
        (claim,) = [row for row in found.splitlines() if "(1) TORE" in row and "ends" not in row]
        assert said in claim


@pytest.mark.parametrize("line", ["{", "[]", '{"value": 3}', "[" * 100_000, '{"label": 3}'])
def test_a_bad_line_is_left_out_and_counted(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"cell": "x", "value": 1}\n' + line + "\n")
    text = write_results(tmp_path).read_text()
    assert "1 of 2 lines of `t.jsonl`" in text
    assert [row[0] for row in rows(tmp_path, "t")][2:] == ["x"]


def test_every_target_is_judged(tmp_path: Path) -> None:
    lines = [
        {"figure": "wrong", "value": 1, "unit": "rounds", "target": "0"},
        {"figure": "right", "value": 0, "unit": "rounds", "target": "0"},
        {"figure": "some", "value": 49, "unit": "of 50 identical", "target": "all"},
        {"figure": "each", "value": 50, "unit": "of 50 identical", "target": "all"},
        {"figure": "told", "value": 50, "unit": "ms", "target": "measured"},
    ]
    write(tmp_path, "t.jsonl", *lines)
    found = {row[0]: row[-1] for row in rows(tmp_path, "t")[2:]}
    assert found == {
        "wrong": "**no**",
        "right": "yes",
        "some": "**no**",
        "each": "yes",
        "told": "–",
    }


def test_labels_are_for_people_only(tmp_path: Path) -> None:
    """With every label changed the same claims are judged alike."""
    folder = ROOT / "results" / "v1"
    (tmp_path / "kept").mkdir()
    for place in (tmp_path, tmp_path / "kept"):
        (place / EDITION).write_text((folder / EDITION).read_text())
    for name in ("client-scale", "lda", "natural"):
        found = rows_in(folder, name).rows
        renamed = [replace(row, label=f"Row {place}") for place, row in enumerate(found)]
        text = "".join(json.dumps(row.to_json()) + "\n" for row in renamed)
        (tmp_path / f"{name}.jsonl").write_text(text)
        (tmp_path / "kept" / f"{name}.jsonl").write_text((folder / f"{name}.jsonl").read_text())
    changed, kept = (
        findings_markdown(place).split("## Claims")[1].split("\n## ")[0]
        for place in (tmp_path, tmp_path / "kept")
    )
    assert changed == kept and "**undecided**" in kept


def hostile(folder: Path) -> Path:
    """A folder of results whose content reaches for what lies outside."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_text('{"label": "SECRET", "value": 1}\n')
    (outside / "secret.svg").write_text("<svg>SECRET</svg>")
    row = ResultRow(
        id="before",
        label="$x_{ \ud800",
        kind="before",
        table="a/../../../outside/TRAVERSED",
        scores={"mpjpe_mm": 1e14},
        curve=(CurvePoint(1, 1, 1, 5.0),),
    )
    raw = row.to_json() | {"seed": 10**400, "n": True, "clients_mm": "many", "config": [1]}
    write(folder, "learning-curves.jsonl", raw, {"figure": "x", "value": 10**400})
    (folder / "linked.jsonl").symlink_to(outside / "secret.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "picture.jpg").symlink_to(outside / "secret.svg")
    (folder / "curves").symlink_to(outside)
    return outside


def test_nothing_outside_a_folder_is_read_or_written(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    outside = hostile(folder)
    before = sorted(outside.rglob("*"))
    write_results(folder)
    section = results_section(folder)
    assert "SECRET" not in section and "SECRET" not in (folder / "README.md").read_text()
    assert "c2VjcmV0" not in section and b64encode(b"<svg>SECRET").decode()[:12] not in section
    assert sorted(outside.rglob("*")) == before
    assert not list(tmp_path.glob("*TRAVERSED*"))


def test_pages_of_others_are_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, "t.jsonl", {"cell": "x", "value": 1})
    (tmp_path / "README.md").write_text("My own notes.\n")
    with pytest.raises(SettingError, match=r"README\.md was not made by"):
        write_results(tmp_path)
    assert (tmp_path / "README.md").read_text() == "My own notes.\n"


def test_a_page_shows_its_curves_from_the_first_time(tmp_path: Path) -> None:
    """Pages are made of what is there, so curves come before them."""
    rows = Path(__file__).resolve().parents[2] / "results" / "ladder.jsonl"
    (tmp_path / rows.name).write_bytes(rows.read_bytes())
    write_results(tmp_path)
    pages = pages_of(tmp_path)
    assert any("![" in text for text in pages.values())
    assert {name: (tmp_path / name).read_text() for name in pages} == pages
