"""Rows of results: JSON in and out, and targets that judge."""

import json
from pathlib import Path

import pytest

from pchmr.results import MEASURED, ResultRow, Target, figure

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.parametrize(
    "path", sorted(RESULTS.rglob("*.jsonl")), ids=lambda p: f"{p.parent.name} {p.stem}"
)
def test_every_committed_row_is_read_and_written_unchanged(path: Path) -> None:
    for line in path.read_text().splitlines():
        row = ResultRow.from_json(json.loads(line))
        assert row is not None and row.scores
        assert json.loads(json.dumps(row.to_json())) == json.loads(line)


def test_rows_of_the_first_version_are_read() -> None:
    raw = {"cell": "10 of 10 clients", "value": 3, "target": "<= 5", "table": "t", "seed": 0}
    row = ResultRow.from_json(raw)
    assert row is not None and (row.id, row.label) == ("10-of-10-clients", "10 of 10 clients")
    assert row.scores == {"value": 3} and row.target == Target("<=", 5, "<= 5")
    assert ResultRow.from_json({"value": 3}) is None and ResultRow.from_json([]) is None


def test_what_is_of_another_type_is_absent() -> None:
    raw = {"label": "x", "seed": "0", "scores": {"a": "b", "c": 1, "d": 10**400, "e": True}}
    raw |= {"curve": [[1, 2], 3, [1, 2, 3, "x"]], "people_mm": [1, None], "recipe": {"worlds": 3}}
    row = ResultRow.from_json(raw | {"target": {"op": [], "bound": "x"}, "started_from": 3})
    assert row is not None and row.scores == {"c": 1} and row.seed is None
    assert row.curve == () == row.people_mm and row.worlds == {} and row.started_from is None


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("<=", 5), 5.0, True),
        (Target("<", 5), 5.0, False),
        (Target("==", 0), 1.0, False),
        (Target.parse("0"), 0.0, True),
        (Target.parse("all", "of 50 identical"), 49.0, False),
        (Target.parse("all", "rows"), 49.0, None),
        (Target.parse("< 6.8 (plain)"), 7.0, False),
        (Target.parse(">= 95"), float("nan"), False),
        (MEASURED, 3.0, None),
    ],
)
def test_targets_judge(target: Target, value: float, met: bool | None) -> None:
    assert target.judge(value) is met


def test_a_figure_that_is_no_number_is_written_as_null() -> None:
    row = figure("broken", float("nan"), "mm", Target("<=", 1.5))
    assert json.loads(json.dumps(row.to_json(), allow_nan=False))["scores"] == {"value": None}
    assert str(Target("<=", 35.0)) == "<= 35.0" and str(Target("==", 0)) == "0"
