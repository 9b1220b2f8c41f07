"""Networks of their own for clients of one scene each, on a few people of 64 px."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.bench import pfl
from pchmr.bench.comparison import MOST_WIDER, whole_lines
from pchmr.bench.pfl import Bench, Plan, chosen_rate, config_of
from pchmr.bench.tailoring import deal_people, tailor
from pchmr.body import load_body
from pchmr.config import BenchConfig, DataOptions, OptimOptions, SettingError
from pchmr.data.sample import Subset
from pchmr.federated import ALGORITHMS
from pchmr.federated.personal import head, scales
from pchmr.models import build_model, save_checkpoint
from pchmr.recipes.personal import (
    GLOBAL,
    METHODS,
    PERSONAL,
    STUDIES,
    WITH_BATCH_NORM,
    PersonalScale,
)

RESULTS = Path(__file__).resolve().parents[2] / "results"


TINY = PersonalScale(
    data=DataOptions(num_samples=48, num_test_samples=6, data_seed=0, image_size=64),
    optim=OptimOptions(optimizer="muon", batch_size=8, clip=1.0, learning_rate=1e-3),
    num_clients=6,
    num_newcomers=1,
    num_choosing=1,
    per_round=2,
    num_seen=24,
    alone_epochs=1,
    alone_rates=(1e-4, 1e-3),
    num_others=3,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    return Bench.of(TINY, "fastmetro_xs", 0, tmp_path_factory.mktemp("pfl"))


def test_every_method_names_an_algorithm_of_the_registry() -> None:
    named = {method.algorithm for method in METHODS.values()} - {None}
    assert named <= set(ALGORITHMS)
    personal = {name for name in ALGORITHMS if ALGORITHMS[name].is_personal}
    assert personal <= named


def test_clients_hold_whole_scenes_and_images_to_be_scored_on(bench: Bench) -> None:
    people, columns = bench.people, bench.scene.train_set.columns
    everybody = [*people.seated, *people.newcomers, *people.choosing]
    assert sorted(everybody) == list(range(6)) and len(people.seated) == 4
    rows = np.concatenate([*people.to_learn, *people.to_score])
    assert sorted(rows) == list(range(48))
    scenes = [
        {*columns["scene"][np.concatenate(parts)]}
        for parts in zip(people.to_learn, people.to_score, strict=True)
    ]
    for place, held in enumerate(scenes):
        assert not any(held & other for other in scenes[place + 1 :])
    again = deal_people(TINY, bench.scene.train_set, 0)
    for a, b in zip(again.to_score, people.to_score, strict=True):
        np.testing.assert_array_equal(a, b)
    assert deal_people(TINY, bench.scene.train_set, 1).seated != people.seated


@pytest.mark.parametrize(
    ("part", "changes"),
    [("head", head), ("scales", scales), ("low-rank", head)],
)
def test_what_is_trained_alone_is_that_part(bench: Bench, part, changes) -> None:
    scene = bench.scene
    before = {n: p.detach().clone() for n, p in scene.model.named_parameters()}
    people = Subset(scene.train_set, np.arange(8))
    tailor(scene, people, part, replace(TINY.optim, learning_rate=1e-2), 1, seed=1)
    moved = {n for n, p in scene.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and moved <= changes(scene.model)
    scene.model.load_state_dict(scene.model.state_dict() | before)


@pytest.mark.slow
def test_rows_of_every_method_and_none_is_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STUDIES, "pfl", (TINY, METHODS))
    path = pfl.run(BenchConfig(name="pfl", output=tmp_path))
    rows = {row.id: row for row in whole_lines(path)}
    assert [*rows] == [*METHODS]
    for row in rows.values():
        assert len(row.clients_mm) == 4
        assert row.scores["own_worst_decile_mm"] >= row.scores["own_mm"] - 1e-6
        assert row.scores["own_mm"] == pytest.approx(np.mean(row.clients_mm), abs=0.01)
    assert rows[GLOBAL].scores["forgotten_mm"] == 0
    assert rows["fine-tuned"].chosen["rate_all"] > 0
    assert len({row.scores["own_mm"] for row in rows.values()}) == len(METHODS)
    before = path.read_text()
    assert pfl.run(BenchConfig(name="pfl", output=tmp_path)).read_text() == before
    assert not [*(tmp_path / "unfinished").glob("*ditto*")]


@pytest.mark.slow
def test_running_statistics_are_averaged_left_alone_or_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, name = tmp_path / "start.safetensors", "fastmetro_xs_bn"
    torch.manual_seed(0)
    save_checkpoint(start, build_model(name, load_body().hierarchy, image_size=64), {})
    size = replace(TINY, models=(name,), checkpoint=start)
    plan = Plan(size, name, 0, GLOBAL, WITH_BATCH_NORM[GLOBAL])
    key = plan.key
    save_checkpoint(start, build_model(name, load_body().hierarchy, image_size=64), {})
    assert plan.key != key
    monkeypatch.setitem(STUDIES, "batch-norm", (size, WITH_BATCH_NORM))
    path = pfl.run(BenchConfig(name="batch-norm", output=tmp_path))
    rows = {row.id: row for row in whole_lines(path)}
    assert [*rows] == [*WITH_BATCH_NORM]
    assert len({row.scores["own_mm"] for row in rows.values()}) == len(rows)
    assert {row.table for row in rows.values()} == {name}
    frozen = config_of(size, name, 0, WITH_BATCH_NORM["frozen"])
    assert frozen.server_options.batch_norm == "freeze"


def test_start_weights_that_nobody_made_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="--recipe start-xs-bn"):
        pfl.run(BenchConfig(name="batch-norm", output=tmp_path))


def test_settings_that_came_later_leave_the_keys_of_earlier_rows() -> None:
    plan = Plan(TINY, "fastmetro_xs", 0, GLOBAL, METHODS[GLOBAL])
    changed = replace(METHODS[GLOBAL], batch_norm="freeze")
    assert replace(plan, method=changed).key != plan.key
    known = {row.key for row in whole_lines(RESULTS / "pfl.jsonl")}
    assert replace(plan, size=PERSONAL).key in known


@pytest.mark.parametrize(("best", "tried"), [(1e-3, 3), (4e-4, 4), (3.5e-3, 5), (9.0, 6)])
def test_no_rate_at_an_edge_is_chosen_while_the_grid_may_grow(best: float, tried: int) -> None:
    asked: dict[float, float] = {}

    def error(rate: float) -> float:
        assert rate not in asked
        return asked.setdefault(rate, abs(np.log(rate / best)))

    rate = chosen_rate((5e-4, 1e-3, 2e-3), error)
    assert len(asked) == tried
    assert asked[rate] == min(asked.values())
    assert min(asked) < rate < max(asked) or tried == 3 + MOST_WIDER


def test_seeds_are_read_and_scales_are_not() -> None:
    assert BenchConfig(name="pfl", num_seeds=3).num_seeds == 3
    with pytest.raises(SettingError, match="--scale"):
        BenchConfig(name="pfl", scale="gpu")
