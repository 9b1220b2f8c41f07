"""The comparisons of paradigms, on people of 64 px that are few enough to train in seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pchmr.bench import comparison
from pchmr.bench.cell import Job, measure, shortened
from pchmr.bench.comparison import AVERAGED, CONSTANT, Board, whole_lines
from pchmr.config import (
    BenchConfig,
    DataOptions,
    DivergedError,
    FederateConfig,
    OptimOptions,
    SettingError,
)
from pchmr.evaluation import evaluate
from pchmr.recipes import rows as recipes
from pchmr.recipes.comparisons import COMPARISONS, MANY_TIMES, cells
from pchmr.recipes.rows import SCALES, Scale

TINY = Scale(
    models=("fastmetro_xs",),
    data=DataOptions(num_samples=20, num_test_samples=6, data_seed=0, image_size=64),
    optim=OptimOptions(batch_size=4, clip=1.0),
    num_seen=40,
    learning_rates=(1e-4, 1e-3),
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Scale:
    monkeypatch.setitem(SCALES, "cpu", TINY)
    return TINY


def lda_like(rows: recipes.Rows) -> list[recipes.Cell]:
    """Two cells that another comparison shares, and one with server options to choose from."""
    grid = ({"server_momentum": 0.1}, {"server_momentum": 0.5})
    return [
        rows.before(),
        rows.centralized(),
        rows.federated("10 of 10 clients", 10),
        rows.federated("fedavgm", 10, algorithm="fedavgm", servers=grid),
    ]


def config(folder: Path, name: str = "client-scale", **changes: Any) -> BenchConfig:
    return BenchConfig(name=name, output=folder, **changes)


@pytest.fixture
def few(tiny: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPARISONS, "client-scale", lda_like)
    monkeypatch.setitem(COMPARISONS, "natural", lambda rows: lda_like(rows)[:3])


def by_cell(path: Path) -> dict[str, dict[str, Any]]:
    return {line["cell"]: line for line in whole_lines(path)}


def test_rows_hold_scores_budgets_and_what_was_chosen(few: None, tmp_path: Path) -> None:
    path = comparison.run(config(tmp_path))
    rows = by_cell(path)
    assert [*rows] == [
        "before", CONSTANT, "centralized", "centralized" + AVERAGED, "10 of 10 clients", "fedavgm",
    ]  # fmt: skip
    federated = rows["10 of 10 clients"]
    assert federated["config"]["num_rounds"] == 2
    assert [point[:2] for point in federated["curve"]] == [[1, 20], [2, 40]]
    assert federated["curve"][-1][2] > 0
    assert federated["curve"][-1][3] == pytest.approx(federated["scores"]["mpjpe_mm"], abs=1e-3)
    assert len(federated["clients_mm"]) == 10 and federated["quarantined"] == 0
    tried = {line["cell"]: line["scores"]["mpjpe_mm"] for line in whole_lines(
        tmp_path / "tuning.jsonl")}  # fmt: skip
    assert len(tried) == 6
    rates = {r: tried[f"10 of 10 clients, fedavg, learning rate {r:g}"] for r in (1e-4, 1e-3)}
    assert federated["chosen"] == {"learning_rate": min(rates, key=lambda r: rates[r])}
    assert set(rows["fedavgm"]["chosen"]) == {"learning_rate", "server_momentum"}
    assert rows["before"]["started_from"]["kind"] == "shipped"
    # Again: nothing is run, and another comparison takes over what it shares.
    before = path.read_text()
    assert comparison.run(config(tmp_path)).read_text() == before
    other = by_cell(comparison.run(config(tmp_path, "natural")))
    assert other["10 of 10 clients"] == federated
    # A torn line is cut off, and only that cell runs again, to the same numbers.
    path.write_text(before[:-30])
    again = by_cell(comparison.run(config(tmp_path)))
    assert again["fedavgm"]["scores"] == rows["fedavgm"]["scores"]
    assert [*again] == [*rows]


def test_a_setting_that_diverges_stops_nothing(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(job: Job, folder: Path) -> dict[str, Any]:
        optim = getattr(job.run, "optim_options", None)
        if optim is not None and optim.learning_rate > 1e-4:
            raise DivergedError("the loss became nan; lower --learning-rate")
        return {"scores": dict.fromkeys(("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm"), 100.0)}

    monkeypatch.setattr(comparison, "measure", diverging)
    rows = by_cell(comparison.run(config(tmp_path)))
    assert rows["10 of 10 clients"]["chosen"] == {"learning_rate": 1e-4}
    failed = [line for line in whole_lines(tmp_path / "tuning.jsonl") if "failed" in line]
    assert failed and all(line["scores"]["mpjpe_mm"] is None for line in failed)
    assert "learning rate 0.001" in (tmp_path / "README.md").read_text()


def test_other_start_weights_or_people_make_another_key(few: None, tmp_path: Path) -> None:
    board = Board(config(tmp_path))
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base
    keys = [board._key(Job(run)), board._key(Job(run, is_trial=True))]
    scratch = replace(run, model_options=replace(run.model_options, from_scratch=True))
    fewer = replace(run, data_options=replace(run.data_options, num_test_samples=5))
    keys += [
        board._key(Job(scratch)),
        board._key(Job(fewer)),
        board._key(Job(replace(run, seed=1))),
    ]
    assert len(set(keys)) == 5
    assert board._key(Job(replace(run, output=Path("elsewhere"), num_workers=2))) == keys[0]


@pytest.mark.slow
def test_the_same_run_gives_the_same_row() -> None:
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base
    assert measure(Job(run))["scores"] == measure(Job(run))["scores"]


@pytest.mark.slow
def test_a_stopped_run_of_rounds_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base
    calm, folder, scored = measure(Job(run)), tmp_path / "unfinished", []

    def stopping(*arguments: Any) -> Any:
        scored.append(1)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pchmr.bench.cell.evaluate", stopping)
        measure(Job(run), folder)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    again = measure(Job(run), folder)
    assert [again[n] for n in ("scores", "curve")] == [calm[n] for n in ("scores", "curve")]
    assert not folder.exists()


def test_a_damaged_stopped_run_starts_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, folder = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base, tmp_path / "stopped"
    seen: list[bool] = []

    def picky(job: Job, folder: Path) -> dict[str, Any]:
        seen.append(folder.exists())
        if folder.exists():
            raise SettingError("--resume: all checkpoints are damaged")
        return {"scores": {"mpjpe_mm": 1.0}}

    monkeypatch.setattr(comparison, "measure", picky)
    folder.mkdir()
    assert comparison.attempt(Job(run), folder) == {"scores": {"mpjpe_mm": 1.0}}
    assert seen == [True, False]

    def refusing(job: Job, folder: Path) -> dict[str, Any]:
        raise SettingError("no such data")

    monkeypatch.setattr(comparison, "measure", refusing)
    with pytest.raises(SettingError, match="no such data"):
        comparison.attempt(Job(run), folder)


def test_rows_do_not_depend_on_the_number_of_workers(few: None, tmp_path: Path) -> None:
    one, two = (
        by_cell(comparison.run(config(tmp_path / str(n), "natural", num_workers=n))) for n in (1, 2)
    )
    assert {cell: row["scores"] for cell, row in one.items()} == {
        cell: row["scores"] for cell, row in two.items()
    }


def test_every_comparison_makes_runs_of_the_same_size() -> None:
    for name in COMPARISONS:
        for scale, size in SCALES.items():
            found = cells(name, scale, 2)
            labels = [(cell.model, cell.name, cell.base.seed) for cell in found]
            assert len(labels) > 3
            for cell in found:
                run = cell.base
                if isinstance(run, FederateConfig):
                    seen = run.num_rounds * run.clients_per_round / run.num_clients
                    times = MANY_TIMES if name == "convergence" else 1
                    images = seen * size.data.num_samples
                    assert images == pytest.approx(times * size.num_seen, rel=0.05)
                    assert isinstance(short := shortened(run), FederateConfig)
                    assert 1 <= short.num_rounds <= run.num_rounds


def test_settings_that_a_benchmark_ignores_are_refused() -> None:
    with pytest.raises(SettingError, match="--scale"):
        BenchConfig(name="speed", scale="gpu")
    with pytest.raises(SettingError, match="--num-seeds"):
        BenchConfig(name="lda", num_seeds=0)
    assert BenchConfig(name="lda", data=Path("people")).data


def test_bytes_that_are_no_rows_are_left_alone(tmp_path: Path) -> None:
    assert whole_lines(tmp_path / "none.jsonl") == []
    (tmp_path / "some.jsonl").write_text(json.dumps({"key": "a"}) + "\n" + '{"key": "b')
    assert whole_lines(tmp_path / "some.jsonl") == [{"key": "a"}]
    assert (tmp_path / "some.jsonl").read_text() == '{"key": "a"}\n'


def test_rows_that_may_close_the_gap() -> None:
    made = {cell.name: cell for cell in cells("optimizers", "cpu", 1)}
    made |= {
        cell.name: cell for cell in cells("client-scale", "cpu", 1) if "tore" not in cell.model
    }
    small = made["10 of 10 clients, fedavg, local batch 2"]
    assert isinstance(small.base, FederateConfig)
    assert small.base.optim_options.batch_size == small.tuned_on.optim_options.batch_size == 2
    plain = made["10 of 10 clients"]
    assert isinstance(plain.base, FederateConfig)
    assert small.base.num_rounds == plain.base.num_rounds
    assert plain.base.optim_options.batch_size > 2
    assert isinstance(plain.tuned_on, FederateConfig)
    momentum = made["10 of 1000 clients, fedavgm"]
    assert momentum.tuned_on == replace(plain.tuned_on, num_clients=1000, num_rounds=400)
    assert all(server["server_momentum"] > 0 for server in momentum.servers)


def test_longer_runs_take_the_settings_of_shorter_ones() -> None:
    made = {cell.name: cell for cell in cells("convergence", "cpu", 1)}
    shorter = {
        cell.name: cell
        for name in ("optimizers", "client-scale")
        for cell in cells(name, "cpu", 1)
        if "tore" not in cell.model
    }
    for name in ("10 of 100 clients, fedavgm", "10 of 10 clients, fedavg, local batch 2"):
        long, short = made[name], shorter[name]
        assert (long.tuned_on, long.like, long.servers) == (
            short.tuned_on, short.like, short.servers,
        )  # fmt: skip
        assert isinstance(long.base, FederateConfig)
        assert isinstance(short.base, FederateConfig)
        assert long.base == replace(short.base, num_rounds=MANY_TIMES * short.base.num_rounds)
