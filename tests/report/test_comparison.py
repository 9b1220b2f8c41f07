import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pchmr.config import ReportConfig
from pchmr.report import is_results, run
from pchmr.report.claims import SETTING, Claim, met, sure, verdicts
from pchmr.report.comparison import (
    GAP,
    difference_mm,
    difference_percent,
    gap_of,
    of_id,
    reached,
    skew_correlation,
    with_gaps,
)
from pchmr.report.crossed import Estimate
from pchmr.report.curves import MeanCurve, budget_curves
from pchmr.report.editions import Edition
from pchmr.report.findings import (
    _robustness,
    _targets,
    findings_markdown,
)
from pchmr.report.gaps import best_of
from pchmr.report.judged import _in_order, judged_claims
from pchmr.report.ladder import bytes_section, ladder_section, matches_section
from pchmr.report.lines import marked
from pchmr.report.personalized import BATCH_NORM, PFL, personal_section
from pchmr.report.results import CURVES, README, name_of, pages_of
from pchmr.results import CurvePoint, ResultRow, Start, figure, slug
from pchmr.results.parts import Recipe

PEOPLE = np.linspace(-20, 20, 21)
START = Start(sha256="start")


def line(name: str, kind: str, error: float, seed: int = 0, **more: Any) -> ResultRow:
    row = ResultRow(
        table="fastmetro_xs",
        id=slug(name),
        label=name,
        kind=kind,
        seed=seed,
        scores={"mpjpe_mm": error},
        people_mm=tuple((error + PEOPLE).tolist()),
        started_from=START,
        contest="10-of-10-clients" if kind == "federated" else None,
    )
    return replace(row, **more)


def comparison(noise: float = 0.0) -> list[ResultRow]:
    made = [line("before", "before", 200.0)]
    for seed in (0, 1):
        curve = (CurvePoint(1, 100, 10, 180.0), CurvePoint(2, 200, 20, 120.0 + seed))
        made.append(line("centralized", "centralized", 100.0 + seed, seed))
        error = 120.0 + seed + noise * seed
        made.append(line("10 of 10 clients", "federated", error, seed, curve=curve))
    return made


def test_gap_closed_is_held_against_the_same_seed_and_start() -> None:
    stranger = line("from nowhere", "federated", 150.0, started_from=Start())
    found = with_gaps([*comparison(), stranger])
    assert found[2].scores[GAP] == pytest.approx(80.0)
    assert found[4].scores[GAP] == pytest.approx(100 * 79 / 99)
    assert GAP not in found[0].scores and GAP not in found[-1].scores
    alone = [figure("x", 1.0, "s")]
    assert with_gaps(alone) == alone


def test_paired_difference_ignores_what_both_sides_share() -> None:
    lines = comparison()
    found = difference_percent(of_id(lines, "10-of-10-clients"), of_id(lines, "centralized"))
    assert found is not None and found.num_seeds == 2 and found.over == "people and seeds"
    assert found.value == pytest.approx(100 * 20 / 100.5)
    apart = difference_mm(of_id(lines, "10-of-10-clients"), of_id(lines, "centralized"))
    # Of people nothing is left; seeds differ by 1 mm in either arm and are not paired.
    assert apart is not None and apart.error == pytest.approx(np.sqrt(0.25 + 0.25))
    wide = comparison(noise=4.0)
    found = difference_percent(of_id(wide, "10-of-10-clients"), of_id(wide, "centralized"))
    assert found is not None and found.interval[0] < 19 < 25 < found.interval[1]
    assert difference_percent({}, of_id(lines, "centralized")) is None


def test_verdicts() -> None:
    claim = Claim(2, "", "client-scale", "a", "b", 0.0, 10.0)

    def said(value: float, error: float, num_seeds: int = 3, others: int = 0) -> str:
        found = Estimate(value, error, 1000.0, num_seeds)
        unsure = [(claim, Estimate(9.9, 5.0, 1000.0, 3))] * others
        return verdicts([(claim, found), *unsure])[0][0]

    assert said(5.0, 1.0) == "confirmed"
    assert said(-3.0, 0.5) == said(12.0, 0.5) == f"not reproduced under {SETTING}"
    assert said(1.0, 1.0) == said(10.5, 1.0) == "undecided"
    assert said(5.0, 1.0, num_seeds=2) == "confirmed, preliminary"
    assert verdicts([(claim, None)]) == [("not yet tested", None)]
    # Alone it is confirmed (p 0.02), among three claims it is not (Holm: 0.06).
    assert said(2.06, 1.0) == "confirmed" and said(2.06, 1.0, others=2) == "undecided"


def test_a_target_is_met_on_three_seeds_only() -> None:
    def judged(value: float, num_seeds: int, error: float = 0.1) -> str:
        return met(Estimate(value, error, 10.0, num_seeds), least=90.0)

    assert judged(91.0, 3) == "yes" and judged(89.0, 3) == "**no**"
    assert judged(91.0, 3, error=2.0) == "by its mean"
    assert judged(91.0, 2) == "not yet: 2 of 3 seeds" and judged(89.0, 1) == "**no**"
    assert met(Estimate(-5.0, 0.1, 10.0, 3), most=1.5) == "yes"
    assert sure(["yes", "yes"]) is True and sure(["yes", "by its mean"]) is None
    assert sure(["by its mean", "**no**"]) is False


def test_gap_of_seeds_and_people() -> None:
    lines = comparison()
    before, central = lines[0], of_id(lines, "centralized")
    found = gap_of(of_id(lines, "10-of-10-clients"), before, central)
    assert found is not None and found.value == pytest.approx(100 * 79.5 / 99.5)
    assert found.num_seeds == 2 and found.interval[0] < found.value < found.interval[1]
    other = replace(before, started_from=Start(sha256="other"))
    assert gap_of(of_id(lines, "10-of-10-clients"), other, central) is None


def test_what_a_rung_changes_and_what_matches() -> None:
    lines = comparison()
    lines += [line("control-minibatch", "control", 119.5 + s, s) for s in (0, 1)]
    lines += [line("10-of-10-clients-state-average", "federated", 119.0 + s, s) for s in (0, 1)]
    rungs = ladder_section(lines)
    assert "| 10 of 10 clients | 10-of-10-clients-state-average | state: forgotten" in rungs
    assert "| 2 | +1.0 [" in rungs
    told = matches_section(lines)
    own = next(row for row in told.splitlines() if "own share" in row)
    assert "| -0.5 [" in own and "| 1.20 |" in own and own.endswith("| not shown |")
    curve = (CurvePoint(1, 100, 20, 150.0), CurvePoint(2, 200, 40, 119.0))
    lines[-2] = replace(lines[-2], curve=curve)
    # Seed 0 alone has a curve: 20 bytes are what forgotten state moved in all.
    assert "| 10 of 10 clients | 1 | 20 B | 120.0 | 150.0 |" in bytes_section(lines)
    assert ladder_section(lines[:1]) == matches_section(lines[:1]) == ""


def test_the_best_personal_method_is_chosen_by_other_clients() -> None:
    def row(name: str, seed: int, worst: float, choosing: float) -> ResultRow:
        scores = {"own_worst_decile_mm": worst, "choosing_mm": choosing, "own_mm": worst - 5}
        return ResultRow(id=name, label=name, table="xs", seed=seed, scores=scores)

    lines = []
    for seed in range(3):
        lines += [
            row("global", seed, 200.0, 190.0),
            row("lucky", seed, 100.0, 180.0),
            row("good", seed, 160.0 + seed, 150.0),
        ]
    lines.append(row("hasty", 0, 90.0, 100.0))  # of one seed
    (told,) = personal_section(PFL, lines)
    assert "(good)" in told and "+19.5 [" in told and told.rstrip().endswith(": yes.")
    (few,) = personal_section(PFL, lines[:3])
    assert "not yet: 1 of 3 seeds" in few
    assert "No method stands" in personal_section(PFL, lines[:1])[0]
    (norms,) = personal_section(BATCH_NORM, lines)
    assert norms.startswith("## batch-norm") and "Worst decile of clients" not in norms


def test_budget_to_the_target_is_read_off_the_curve() -> None:
    before, central, ours = comparison()[:3]
    way = reached(ours, before, central)  # target 130: five sixths of the second stretch
    assert way == pytest.approx((1 + 5 / 6, 100 + 500 / 6, 10 + 50 / 6, 130))
    assert reached(replace(ours, curve=ours.curve[:1]), before, central) is None


def test_rank_correlation_with_skew() -> None:
    lines = [line(str(i), "federated", 100.0 + i, mean_skew=i / 10) for i in range(4)]
    found = skew_correlation(lines)
    assert found is not None and found[0] == pytest.approx(1.0) and found[1] == 4
    assert skew_correlation(lines[:2]) is None


@pytest.mark.whole
def test_a_folder_of_results_is_regenerated_with_findings_and_curves(tmp_path: Path) -> None:
    text = "".join(json.dumps(row.to_json()) + "\n" for row in comparison())
    (tmp_path / "client-scale.jsonl").write_text(text)
    assert is_results(tmp_path) and not is_results(tmp_path / "none")
    run(ReportConfig(runs=(tmp_path,), output=tmp_path / "report.html"))
    assert "10 of 10 clients" in (tmp_path / "report.html").read_text()
    findings = (tmp_path / "findings.md").read_text()
    assert findings == findings_markdown(tmp_path)
    (told,) = [row for row in findings.splitlines() if "| 2 | 120.5 | +79.9 [" in row]
    assert told.startswith("| 10 of 10 clients |") and "| +19.9 [" in told and "| 2 | 200 |" in told
    assert f"**not reproduced under {SETTING}, preliminary**" in findings
    assert "**not yet tested**" in findings
    assert (tmp_path / README).read_text() == pages_of(tmp_path)[README]
    table = tmp_path / name_of("client-scale: fastmetro_xs")
    assert "gap_closed_percent" in table.read_text()
    picture = tmp_path / CURVES / "client-scale-fastmetro_xs.svg"
    before = picture.read_bytes()
    run(ReportConfig(runs=(tmp_path,)))
    assert picture.read_bytes() == before and b"10 of 10 clients" in before
    for name in ("lda-tore_xs.svg", "mine.svg"):
        picture.with_name(name).write_bytes(before)
    run(ReportConfig(runs=(tmp_path,)))
    assert {path.name for path in picture.parent.iterdir()} == {picture.name, "mine.svg"}


def test_a_curve_is_the_mean_over_seeds_in_its_interval() -> None:
    lines = [row for row in comparison() if row.id == "10-of-10-clients"]
    found = MeanCurve.of(lines, comparison()[0])
    assert found.points[:, 3].tolist() == [200.0, 180.0, 120.5]
    # two values one apart: the mean's standard error is 1/2, and t at 97.5 % with one degree 12.7
    assert found.half_width == pytest.approx([0, 0, 12.706 / 2], rel=1e-3)
    assert not MeanCurve.of(lines[:1], comparison()[0]).half_width.any()


def test_the_legend_tells_what_leaves_the_frame() -> None:
    inside = budget_curves("t", comparison()).decode()
    assert "leaves the frame" not in inside
    curve = (CurvePoint(1, 1000, 10**6, 320.0), CurvePoint(2, 2000, 2 * 10**6, 300.0))
    far = line("10 of 10 clients, random start", "federated", 300.0, curve=curve)
    picture = budget_curves("t", [*comparison(), far]).decode()
    assert "10 of 10 clients, random start (leaves the frame)" in picture
    assert picture.count("leaves the frame") == 1


def test_targets_of_the_gap_take_the_best_row_of_so_many_clients() -> None:
    rows = [*comparison(), *(line("10 of 10 clients, fedavgm", "federated", 104.0 + s, s)
                             for s in (0, 1))]  # fmt: skip
    text = _targets({"few": with_gaps(rows)})
    best = "10 of 10 clients, fedavgm | 2 | +96.0 ["
    assert f"| 10 of 10 clients | >= 90 | few | 100.5 | {best}" in text
    assert "| not yet: 2 of 3 seeds |" in text
    assert ">= 75" not in text  # nobody tried
    assert "| **no** |" in _targets({"few": with_gaps(comparison())})
    long = [line("before", "before", 200.0), line("centralized", "centralized", 90.0),
            line("10 of 10 clients", "federated", 102.0)]  # fmt: skip
    text = _targets({"few": with_gaps(rows), "many": with_gaps(long)})
    assert f"| few | 100.5 | {best}" in text
    assert "| 10 of 10 clients | >= 90 | many | 90.0 | 10 of 10 clients | 1 | +89.1 [" in text


def test_rows_stand_in_the_order_of_the_comparison() -> None:
    kinds = {"LDA alpha 1, 10 of 100 clients": "federated",
             "centralized, weights averaged": "averaged",
             "another": "federated", "LDA alpha 100, 10 of 100 clients": "federated",
             "centralized": "centralized", "mean pose": "constant", "before": "before"}  # fmt: skip
    runs = {"averaged": "centralized", "constant": "before"}
    made = [line(name, kind, 100.0, of_run=runs.get(kind)) for name, kind in kinds.items()]
    found = _in_order("lda", made)
    assert [row.label for row in found] == [
        "before", "mean pose", "centralized", "centralized, weights averaged",
        "LDA alpha 100, 10 of 100 clients", "LDA alpha 1, 10 of 100 clients", "another",
    ]  # fmt: skip


def test_attacks_are_held_against_honest_clients() -> None:
    def attacked(name: str, error: float, gate: bool, bad: int = 3, **rule: Any) -> ResultRow:
        config = {"num_bad": bad, "server_options": rule}
        return line(name, "federated", error, defended=gate, quarantined=12, config=config)

    lines = [
        line("10 of 10 clients", "federated", 100.0),
        attacked("mild, gate", 109.0, True),
        attacked("harsh, gate", 111.0, True),
        attacked("one, gate", 104.0, True, bad=1),
        attacked("mild, krum", 104.0, True, aggregation_rule="multi-krum"),
        attacked("harsh, trimmed", 106.0, True, trimmed_replies=3),
        attacked("one, trimmed", 102.5, True, bad=1, trimmed_replies=3),
        attacked("harsh, no gate", 300.0, False),
        replace(
            attacked("broken, no gate", 0.0, False),
            scores={"mpjpe_mm": None},
            people_mm=(),
            failed="overflow",
        ),
    ]
    text = _robustness(with_gaps(lines))
    for name, cost, most, said in (
        ("mild, gate", "+9.0", "+10", "yes"),
        ("harsh, gate", "+11.0", "+10", "**no**"),
        ("one, gate", "+4.0", "+3", "**no**"),
        ("mild, krum", "+4.0", "+5", "yes"),
        ("harsh, trimmed", "+6.0", "+5", "**no**"),
        ("one, trimmed", "+2.5", "+2", "**no**"),
        ("harsh, no gate", "+200.0", "–", "–"),
    ):
        (told,) = [row for row in text.splitlines() if row.startswith(f"| {name} |")]
        assert told.startswith(f"| {name} | {cost} ["), name
        assert told.endswith(f"] | 12 | {most} | {said} |"), name
    assert "| broken, no gate | – | 12 | – | **no**, the run came to nothing |" in text


def test_a_gap_is_one_of_the_same_people() -> None:
    lines = comparison()
    few = line("few", "federated", 110.0)
    few = replace(few, people_mm=few.people_mm[:5])
    gaps = {row.id: row.scores.get("gap_closed_percent") for row in with_gaps([*lines, few])}
    assert gaps["few"] is None and gaps["10-of-10-clients"] is not None


def test_a_start_that_is_out_of_date_is_no_start() -> None:
    worlds = {"W": "now"}
    recipe = Recipe(version=2, worlds={"W": "then"})
    old = replace(line("before", "before", 150.0), seed=7, recipe=recipe)
    lines = marked([old, *comparison()], Edition(worlds=worlds, starts={}))
    assert "stale" in lines[0].id
    gaps = [row.scores.get("gap_closed_percent") for row in with_gaps(lines)]
    assert gaps == [
        None,
        *[row.scores.get("gap_closed_percent") for row in with_gaps(comparison())],
    ]


def test_the_best_row_is_chosen_on_validation_people() -> None:
    lines = comparison()
    others = [row for row in lines if row.kind != "federated"]
    told = [
        replace(row, scores=row.scores | {"validation_mpjpe_mm": 110.0, "gap_closed_percent": 79.9})
        for row in lines
        if row.kind == "federated"
    ]
    lucky = [
        replace(
            row,
            id="lucky",
            scores=row.scores | {"validation_mpjpe_mm": 115.0, "gap_closed_percent": 95.0},
        )
        for row in told
    ]
    best = best_of([*others, *told, *lucky], "10-of-10-clients")
    assert best is not None and best.id == "10-of-10-clients" and best.closed.num_seeds == 2
    assert best.closed.value == pytest.approx(100 * 79.5 / 99.5)
    better = tuple((110.0 + PEOPLE).tolist())
    silent = [replace(row, scores={"mpjpe_mm": 110.0}, people_mm=better) for row in lucky]
    other = best_of([*others, *told, *silent], "10-of-10-clients")
    assert other is not None and other.id == "lucky"


def test_other_people_stand_beside_and_decide_no_claim() -> None:
    rows = with_gaps(comparison())
    beside = {
        ("client-scale", "fastmetro_xs"): rows,
        ("client-scale", "fastmetro_xs on domain B"): rows,
    }
    decided = [(one.claim, one.model, one.judged) for one in judged_claims(beside)]
    alone = judged_claims({("client-scale", "fastmetro_xs"): rows})
    assert decided == [(one.claim, one.model, one.judged) for one in alone]
    assert any(one.found is not None for one in alone)


def test_a_row_of_one_seed_does_not_stand_for_one_of_three() -> None:
    made = [line("before", "before", 200.0)]
    for seed in range(3):
        made.append(line("centralized", "centralized", 100.0, seed))
        made.append(line("10 of 10 clients", "federated", 110.0, seed))
    lucky = line("lucky", "federated", 105.0, contest="10-of-10-clients")
    best = best_of(with_gaps([*made, lucky]), "10-of-10-clients")
    assert best is not None and (best.id, best.closed.num_seeds) == ("10-of-10-clients", 3)
    few = [row for row in made if row.seed == 0]
    best = best_of(with_gaps([*few, lucky]), "10-of-10-clients")
    assert best is not None and best.id == "lucky"
