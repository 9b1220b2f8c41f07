"""The comparisons of paradigms, on people of 64 px that are few enough to train in seconds."""

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pchmr import experiment
from pchmr.bench import cell as cell_module
from pchmr.bench import comparison
from pchmr.bench.cell import Job, Measured, attempt, measure, shortened
from pchmr.bench.comparison import MOST_WIDER, Ledger, whole_lines
from pchmr.bench.likeness import deciding
from pchmr.bench.naming import table_of, trial_of
from pchmr.cli import main
from pchmr.config import (
    BenchConfig,
    DataOptions,
    DivergedError,
    FederateConfig,
    OptimOptions,
    SettingError,
)
from pchmr.evaluation import evaluate
from pchmr.recipes import BENCHES
from pchmr.recipes import rows as recipes
from pchmr.recipes.cells import SCALES, Scale, fixed
from pchmr.recipes.comparisons import COMPARISONS, MANY_TIMES, TO_PLATEAU, cells, domain_of
from pchmr.recipes.hostile import SWEEP_IMAGES, SWEEP_ROUNDS, SWEPT_IID, SWEPT_SKEWED
from pchmr.results import ResultRow

pytestmark = pytest.mark.whole

TINY = Scale(
    models=("fastmetro_xs",),
    data=DataOptions(num_samples=8, num_test_samples=4, data_seed=0, image_size=64),
    optim=OptimOptions(batch_size=4, clip=1.0),
    num_seen=16,
    learning_rates=(1e-4, 1e-3),
)
TWO = "two-clients"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Scale:
    monkeypatch.setitem(SCALES, "cpu", TINY)
    monkeypatch.setattr(recipes, "PER_ROUND", 2)
    return TINY


def two_clients(rows: recipes.Rows) -> recipes.Cell:
    """FedAvg on as few clients as federate."""
    return rows.federated(TWO, "two clients", 2, contest=TWO)


def lda_like(rows: recipes.Rows) -> list[recipes.Cell]:
    """Two cells that another comparison shares, and one with server options to choose from."""
    grid = ({"server_momentum": 0.1}, {"server_momentum": 0.5})
    return [
        rows.before(),
        rows.centralized(),
        two_clients(rows),
        rows.federated("fedavgm", "with momentum", 2, algorithm="fedavgm", servers=grid),
    ]


def config(folder: Path, name: str = "client-scale", **changes: Any) -> BenchConfig:
    return BenchConfig(name=name, output=folder, **changes)


@pytest.fixture
def few(tiny: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPARISONS, "client-scale", lda_like)
    monkeypatch.setitem(COMPARISONS, "natural", lambda rows: lda_like(rows)[:3])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a comparison that ran to its end in one process; to be read, not written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "cpu", TINY)
        patch.setattr(recipes, "PER_ROUND", 2)
        patch.setitem(COMPARISONS, "client-scale", lda_like)
        return comparison.run(config(tmp_path_factory.mktemp("ran")))


def test_tables_are_named_by_the_network_and_by_whom_a_comparison_is_not_made_on() -> None:
    assert {domain_of(name) for name in ("client-scale", "lda", "natural")} == {"W"}
    assert domain_of("byzantine") == "B"
    for domain, name in ((None, "fastmetro_xs"), ("B", "fastmetro_xs on domain B")):
        base = cells("client-scale", "cpu", 1, domain=domain)[0].base
        assert base.data_options.domain == (domain or "W")
        assert table_of("client-scale", base) == name
    own = replace(base, data_options=replace(base.data_options, data=Path("mine/people")))
    assert table_of("client-scale", own) == "fastmetro_xs on people"
    assert table_of("byzantine", cells("byzantine", "cpu", 1)[0].base) == "fastmetro_xs"


def by_id(path: Path) -> dict[str, ResultRow]:
    return {row.id: row for row in whole_lines(path)}


def test_rows_hold_scores_budgets_and_what_was_chosen(ran: Path) -> None:
    rows = by_id(ran)
    assert [*rows] == [
        "before",
        "mean-pose-of-the-training-people",
        "centralized",
        "centralized-weights-averaged",
        TWO,
        "fedavgm",
    ]
    federated = rows[TWO]
    assert federated.label == "two clients" and federated.contest == federated.id
    assert federated.config["num_rounds"] == 2
    assert [point[:2] for point in federated.curve] == [(1, 8), (2, 16)]
    assert federated.curve[-1].num_bytes > 0
    assert federated.curve[-1].mpjpe_mm == pytest.approx(federated.scores["mpjpe_mm"], abs=1e-3)
    assert len(federated.clients_mm) == 2 and federated.quarantined == 0
    trials = whole_lines(ran.parent / "tuning.jsonl")
    tried = {row.label: row.measures["mpjpe_mm"] for row in trials}
    assert len(tried) == len(trials)
    rates = {
        float(label.split()[-1]): mpjpe
        for label, mpjpe in tried.items()
        if label.startswith("2 of 2 clients, fedavg, of 2 rounds, learning rate")
    }
    best = min(rates, key=lambda r: rates[r])
    assert federated.chosen == {"learning_rate": best}
    central = [label for label in tried if label.startswith("centralized, of ")]
    assert len(tried) == len(central) + len(rates) + 2  # values of the server's momentum
    assert min(rates) < best < max(rates) or len(rates) == len(TINY.learning_rates) + MOST_WIDER
    assert set(rows["fedavgm"].chosen) == {"learning_rate", "server_momentum"}
    start = rows["before"].started_from
    assert start is not None and start.kind == "shipped"
    assert rows["centralized-weights-averaged"].of_run == "centralized"


def test_what_is_measured_is_not_run_again(few: None, ran: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ran.parent, tmp_path / "again"))
    path, before, rows = folder / ran.name, ran.read_text(), by_id(ran)
    assert comparison.run(config(folder)).read_text() == before
    # Another comparison takes over what it shares.
    other = by_id(comparison.run(config(folder, "natural")))
    assert other[TWO] == rows[TWO]
    # A torn line is cut off, and only that cell runs again, to the same numbers.
    path.write_text(before[:-30])
    again = by_id(comparison.run(config(folder)))
    assert again["fedavgm"].scores == rows["fedavgm"].scores
    assert [*again] == [*rows]


def test_a_setting_that_diverges_stops_nothing(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Job] = []

    def diverging(job: Job, folder: Path) -> Measured:
        tried.append(job)
        folder.mkdir(parents=True, exist_ok=True)  # a run that was stopped lies there
        optim = getattr(job.run, "optim_options", None)
        if optim is not None and optim.learning_rate > 1e-4:
            raise DivergedError("the loss became nan; lower --learning-rate")
        away = 0.0 if optim is None else abs(math.log(optim.learning_rate / 4e-5))
        scores = dict.fromkeys(("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm"), 100.0 + away)
        return Measured(ResultRow(id="", label="", scores=scores))

    monkeypatch.setattr(cell_module, "measure", diverging)
    rows = by_id(comparison.run(config(tmp_path)))
    assert rows[TWO].chosen == {"learning_rate": 4e-5}  # beyond the grid, and 1.6e-5 is worse
    failed = [row for row in whole_lines(tmp_path / "tuning.jsonl") if row.failed]
    assert failed and all(row.scores["mpjpe_mm"] is None for row in failed)
    page = tmp_path / "tables" / "tuning-fastmetro_xs.md"
    assert "learning rate 0.001" in page.read_text()
    # Each is tried once, and has one row, however often the comparison is run.
    assert len(tried) == len({repr(job) for job in tried})
    num_tried, lines = len(tried), (tmp_path / "tuning.jsonl").read_text()
    comparison.run(config(tmp_path))
    assert len(tried) == num_tried and (tmp_path / "tuning.jsonl").read_text() == lines


def test_other_start_weights_or_people_make_another_key(few: None, tmp_path: Path) -> None:
    ledger = Ledger(config(tmp_path))
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base
    keys = [ledger._key(Job(run)), ledger._key(Job(run, is_trial=True))]
    random = replace(run.model_options, from_scratch=True, edition=None)
    scratch = replace(run, model_options=random)
    fewer = replace(run, data_options=replace(run.data_options, num_test_samples=3))
    keys += [
        ledger._key(Job(scratch)),
        ledger._key(Job(fewer)),
        ledger._key(Job(replace(run, seed=1))),
    ]
    assert len(set(keys)) == 5
    assert ledger._key(Job(replace(run, output=Path("elsewhere"), num_workers=2))) == keys[0]


@pytest.mark.slow
def test_the_same_run_gives_the_same_row(tiny: Scale) -> None:
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base
    assert measure(Job(run)).row.scores == measure(Job(run)).row.scores


@pytest.mark.slow
@pytest.mark.parametrize("cell", [1, 2], ids=["epochs", "rounds"])
def test_a_stopped_run_goes_on(
    cell: int, tiny: Scale, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[cell].base
    calm, folder, scored = measure(Job(run)), tmp_path / "unfinished", []

    def stopping(*arguments: Any, **more: Any) -> Any:
        scored.append(1)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pchmr.experiment.scene.evaluate", stopping)
        measure(Job(run), folder)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    again = measure(Job(run), folder)
    assert (again.row.scores, again.row.curve) == (calm.row.scores, calm.row.curve)
    assert {n: r.scores for n, r in again.beside.items()} == {
        n: r.scores for n, r in calm.beside.items()
    }
    assert not folder.exists()


def test_a_damaged_stopped_run_starts_anew(
    tiny: Scale, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, folder = lda_like(recipes.Rows(TINY, "fastmetro_xs", 0))[2].base, tmp_path / "stopped"
    seen: list[bool] = []

    found = Measured(ResultRow(id="", label="", scores={"mpjpe_mm": 1.0}))

    def picky(job: Job, folder: Path) -> Measured:
        seen.append(folder.exists())
        if folder.exists():
            raise SettingError("--resume: all checkpoints are damaged")
        return found

    monkeypatch.setattr(cell_module, "measure", picky)
    folder.mkdir()
    assert attempt(Job(run), folder) == found
    assert seen == [True, False]

    def refusing(job: Job, folder: Path) -> Measured:
        raise SettingError("no such data")

    monkeypatch.setattr(cell_module, "measure", refusing)
    with pytest.raises(SettingError, match="no such data"):
        attempt(Job(run), folder)


def test_rows_do_not_depend_on_the_number_of_workers(
    tiny: Scale, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes, with the rate that one process chose."""
    one = by_id(ran)
    rate = float(str(one[TWO].chosen["learning_rate"]))
    monkeypatch.setitem(SCALES, "cpu", replace(tiny, learning_rates=(rate,)))
    monkeypatch.setitem(COMPARISONS, "natural", lambda rows: [rows.before(), two_clients(rows)])
    two = by_id(comparison.run(config(tmp_path, "natural", num_workers=2)))
    assert {*two} < {*one} and TWO in two
    assert {name: one[name].scores for name in two} == {
        name: row.scores for name, row in two.items()
    }


def test_every_comparison_makes_runs_of_the_same_size() -> None:
    for name in COMPARISONS:
        for scale, size in SCALES.items():
            found = cells(name, scale, 2)
            trained = [cell for cell in found if cell.rates]
            keys = [(cell.model, cell.id, cell.base.seed) for cell in trained]
            assert len(set(keys)) == len(keys) >= 3
            for cell in found:
                run = cell.base
                if isinstance(run, FederateConfig):
                    seen = run.num_rounds * run.clients_per_round / run.num_clients
                    times = {"convergence": MANY_TIMES, "plateau": TO_PLATEAU}.get(name, 1)
                    images = seen * run.data_options.num_samples
                    few = cell.id.startswith((SWEPT_IID, SWEPT_SKEWED))
                    whole = SWEEP_ROUNDS * SWEEP_IMAGES if few else times * size.num_seen
                    assert images == pytest.approx(whole, rel=0.05)
                    assert isinstance(short := shortened(run), FederateConfig)
                    assert 1 <= short.num_rounds <= run.num_rounds


def test_a_setting_that_came_later_and_is_off_changes_no_key() -> None:
    """What is measured would be measured again: leave new settings off, or name their default."""
    cell = next(c for c in cells("client-scale", "cpu", 1) if c.id == recipes.EVERYONE)
    people = {"domain": "W", "num_samples": 2000, "num_test_samples": 400, "data_seed": 0}
    fitted = {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 1e-4, "batch_size": 8}
    rules = {"mu": 0.01, "tau": 1e-3, "beta_1": 0.9, "beta_2": 0.99, "server_momentum": 0.9}
    rules |= {"own_share": 0.5, "lora_rank": 8, "trainable": "all", "batch_norm": "average"}
    rounds = {"num_clients": 10, "clients_per_round": 10, "num_rounds": 4, "local_epochs": 1}
    assert deciding(asdict(fixed(cell.base, 3e-3, {}))) == {
        **rounds,
        "seed": 0,
        "algorithm": "fedavg",
        "partition": "iid",
        "partition_options": {"alpha": 1.0, "shards_per_client": 2},
        "data_options": people,
        "model_options": {"model": "fastmetro_xs"},
        "optim_options": {
            **fitted,
            "augment": True,
            "clip": 1.0,
            "clip_by": "norm",
            "loss": "auto",
        },
        "server_options": {**rules, "round_schedule": "cosine"},
    }


def test_settings_that_a_benchmark_ignores_are_refused() -> None:
    with pytest.raises(SettingError, match="--scale"):
        BenchConfig(name="speed", scale="gpu")
    with pytest.raises(SettingError, match="--num-seeds"):
        BenchConfig(name="lda", num_seeds=0)
    assert BenchConfig(name="lda", data=Path("people")).data


def test_bytes_that_are_no_rows_are_left_alone(tmp_path: Path) -> None:
    assert whole_lines(tmp_path / "none.jsonl") == []
    line = json.dumps(ResultRow(id="a", label="A", key="a").to_json()) + "\n"
    (tmp_path / "some.jsonl").write_text(line + '{"key": "b')
    assert whole_lines(tmp_path / "some.jsonl") == [ResultRow(id="a", label="A", key="a")]
    assert (tmp_path / "some.jsonl").read_text() == line


@pytest.mark.parametrize("name", ["centralized", TWO, "before"])
def test_a_cell_is_what_a_command_would_have_written(
    name: str, tiny: Scale, tmp_path: Path
) -> None:
    """The same config by verb and by cell: the same weights and the same scores."""
    cell = next(c for c in lda_like(recipes.Rows(TINY, "fastmetro_xs", 0)) if c.id == name)
    run = replace(fixed(cell.base, 1e-3, {}), output=tmp_path)
    verbs: dict[str, Any] = {
        "centralized": experiment.train,
        TWO: experiment.federate,
        "before": experiment.evaluate,
    }
    summary, row = verbs[name](run), measure(Job(run)).row
    assert row.model_sha256 == summary["model_sha256"]
    after = {score: round(value, 3) for score, value in summary["after"].items()}
    assert {score: row.scores[score] for score in after} == after
    assert row.partition_sha256 == summary.get("partition_sha256")


def test_without_a_name_benchmarks_are_listed_and_none_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name} " in said and bench.about in said for name, bench in BENCHES.items())
    assert not list(tmp_path.iterdir())
    assert main(["bench", "nothing"]) == 2
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    helped = capsys.readouterr().out
    assert all(name in helped for name in BENCHES)


def test_rows_that_may_close_the_gap() -> None:
    made = {cell.id: cell for cell in cells("optimizers", "cpu", 1)}
    made |= {cell.id: cell for cell in cells("client-scale", "cpu", 1) if "tore" not in cell.model}
    small = made["10-of-10-clients-fedavg-local-batch-2"]
    assert isinstance(small.base, FederateConfig)
    assert small.base.optim_options.batch_size == small.tuned_on.optim_options.batch_size == 2
    plain = made["10-of-10-clients"]
    assert isinstance(plain.base, FederateConfig)
    assert small.base.num_rounds == plain.base.num_rounds
    assert plain.base.optim_options.batch_size > 2
    assert isinstance(plain.tuned_on, FederateConfig)
    momentum = made["10-of-1000-clients-fedavgm"]
    assert momentum.tuned_on == replace(plain.tuned_on, num_clients=1000, num_rounds=400)
    assert all(server["server_momentum"] > 0 for server in momentum.servers)


def test_the_longest_runs_choose_rates_of_their_own() -> None:
    made = {cell.id: cell for cell in cells("plateau", "cpu", 1)}
    for name in (recipes.CENTRALIZED, f"{recipes.EVERYONE}-state-average"):
        cell = made[name]
        assert fixed(cell.tuned_on, 0.1, {}) == fixed(cell.base, 0.1, cell.servers[0])
    averaged = made[f"{recipes.EVERYONE}-state-average"].tuned_on
    assert "state averaged" in trial_of(averaged) and "64 rounds" in trial_of(averaged)


def test_longer_runs_take_the_settings_of_shorter_ones() -> None:
    made = {cell.id: cell for cell in cells("convergence", "cpu", 1)}
    shorter = {
        cell.id: cell
        for name in ("optimizers", "client-scale")
        for cell in cells(name, "cpu", 1)
        if "tore" not in cell.model
    }
    for name in (
        recipes.EVERYONE,
        "10-of-100-clients-fedavgm",
        "10-of-10-clients-fedavg-local-batch-2",
    ):
        long, short = made[name], shorter[name]
        assert (long.tuned_on, long.like) == (short.tuned_on, short.like)
        assert long.servers == short.servers
        assert isinstance(long.base, FederateConfig)
        assert isinstance(short.base, FederateConfig)
        assert long.base == replace(short.base, num_rounds=MANY_TIMES * short.base.num_rounds)
