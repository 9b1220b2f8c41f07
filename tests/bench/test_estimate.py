"""What a comparison will cost, and rows of the same run whose key was made in another way."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pchmr.bench import likeness
from pchmr.bench.cell import Job
from pchmr.bench.comparison import Ledger
from pchmr.bench.estimate import SECONDS_PER_IMAGE, cpu_hours, images_of, prices_of
from pchmr.config import BenchConfig, to_json
from pchmr.recipes.cells import SCALES, fixed
from pchmr.recipes.rows import Rows
from pchmr.results import CurvePoint, ResultRow, Start

ROWS = Rows(SCALES["cpu"], "fastmetro_xs", 0)


def test_every_run_sees_as_many_images() -> None:
    cells = [ROWS.centralized(), ROWS.iid(10), ROWS.iid(100), ROWS.iid(1000)]
    cells += [ROWS.rung("minibatch"), ROWS.with_state(10)]
    assert {images_of(cell.base) for cell in cells} == {8000.0}
    assert images_of(ROWS.before().base) == 0
    assert images_of(ROWS.iid(10).base, is_trial=True) == 4000  # two of four rounds
    assert images_of(ROWS.iid(100).base, is_trial=True) == 2000


def test_hours_are_images_times_what_rows_took() -> None:
    run = ROWS.iid(10).base
    assert cpu_hours([(run, False)], {}) == pytest.approx(8000 * SECONDS_PER_IMAGE / 3600)
    curve = (CurvePoint(4, 8000, 1, 180.0),)
    rows = [
        ResultRow(id="a", label="a", table="fastmetro_xs", curve=curve, cpu_seconds=seconds)
        for seconds in (300.0, 400.0, 900.0)
    ]
    assert prices_of(rows) == {"fastmetro_xs": 0.05}
    assert cpu_hours([(run, False), (run, True)], prices_of(rows)) == pytest.approx(600 / 3600)


def row_of(cell, rate: float, key: str) -> ResultRow:
    run = fixed(cell.base, rate, {})
    start = Start(sha256="start")
    config = json.loads(to_json(run))
    del config["server_options"]["client_state"]  # an earlier version knew no such setting
    return ResultRow(id=cell.id, label=cell.name, key=key, config=config, started_from=start)


def test_a_row_is_known_by_its_settings_start_and_people() -> None:
    cell = ROWS.iid(10)
    row, run = row_of(cell, 1e-3, "old"), fixed(cell.base, 1e-3, {})
    assert likeness.of_row(row) == likeness.of_run(run, "start", {})
    others = [
        likeness.of_run(fixed(cell.base, 2e-3, {}), "start", {}),
        likeness.of_run(run, "another", {}),
        likeness.of_run(run, "start", {"B": "another"}),
        likeness.of_run(fixed(cell.base, 1e-3, {"client_state": "average"}), "start", {}),
    ]
    assert likeness.of_row(row) not in others and len(set(others)) == 4
    assert likeness.of_row(replace(row, started_from=None)) is None
    assert likeness.of_row(replace(row, config={"num_rounds": 1, "attack": "x"})) is None


def test_rows_whose_last_batches_were_short_do_not_count() -> None:
    assert not likeness.has_short_batches(ROWS.iid(10).base)  # 200 images in batches of 8
    assert not likeness.has_short_batches(ROWS.iid(1000).base)  # 2 images
    assert likeness.has_short_batches(ROWS.iid(100).base)  # 20 images
    assert not likeness.has_short_batches(ROWS.centralized().base)


def test_a_run_that_an_earlier_version_measured_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pchmr.bench import comparison

    cells = [ROWS.iid(10), ROWS.iid(100)]
    lines = [json.dumps(row_of(cell, 1e-3, f"old {cell.id}").to_json()) for cell in cells]
    (tmp_path / "client-scale.jsonl").write_text("\n".join(lines) + "\n")
    ground = comparison.Ground(("start", "people"), {})
    monkeypatch.setattr(Ledger, "_ground", lambda self, run: ground)
    ledger = Ledger(BenchConfig(name="client-scale", output=tmp_path))
    known = []
    for cell in cells:
        key = ledger._key(Job(fixed(cell.base, 1e-3, {})))
        known.append(key in ledger.rows["client-scale"])
    assert known == [True, False]


def test_what_another_comparison_holds_is_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pchmr.bench import comparison

    cell = ROWS.before()
    row = replace(row_of_before(cell), key="old")
    text = json.dumps(row.to_json()) + "\n"
    for name in ("client-scale", "lda"):
        (tmp_path / f"{name}.jsonl").write_text(text)
    ground = comparison.Ground(("start", "people"), {})
    monkeypatch.setattr(Ledger, "_ground", lambda self, run: ground)
    for _ in range(2):
        ledger = Ledger(BenchConfig(name="natural", output=tmp_path))
        assert ledger._next(cell) == []
    assert len((tmp_path / "natural.jsonl").read_text().splitlines()) == 1


def row_of_before(cell) -> ResultRow:
    config, start = json.loads(to_json(cell.base)), Start(sha256="start")
    return ResultRow(
        id=cell.id, label=cell.name, kind="before", config=config, started_from=start, seed=0
    )
