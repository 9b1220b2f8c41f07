"""The controls between centralized and federated training, on a few people of 64 px and on toys."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.bench import ladder
from pchmr.bench.cell import Job, measure
from pchmr.config import DataOptions, FederateConfig, OptimOptions, ServerOptions, TrainConfig
from pchmr.experiment.scene import open_scene, world_of
from pchmr.federated import run_federated
from pchmr.recipes.cells import LadderRun
from pchmr.recipes.comparisons import cells
from pchmr.results import CONTROL
from pchmr.runs import RunFolder
from pchmr.training import fit

sys.path.insert(0, str(Path(__file__).parents[1] / "federated"))
from toy import ToyPeople, config_of
from toy import world_of as toy_world

PEOPLE = DataOptions(num_samples=12, num_test_samples=4, data_seed=0, image_size=64)
OPTIM = OptimOptions(optimizer="muon", learning_rate=1e-3, batch_size=4, clip=1.0)


def run_of(num_clients: int, **changes) -> FederateConfig:
    return FederateConfig(
        num_clients=num_clients,
        clients_per_round=num_clients,
        num_rounds=2,
        data_options=PEOPLE,
        optim_options=OPTIM,
        server_options=ServerOptions(round_schedule="cosine"),
        **changes,
    )


def weights_of(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def climbed(config: FederateConfig, rung: str) -> torch.Tensor:
    torch.set_num_threads(1)
    scene = open_scene(config)
    ladder.climb(config, rung, world_of(config, scene), lambda _: None)
    return weights_of(scene.model)


@pytest.fixture(scope="module")
def centralized() -> torch.Tensor:
    torch.set_num_threads(1)
    config = run_of(1)
    scene = open_scene(config)
    same = {name: getattr(config, name) for name in ("data_options", "model_options", "seed")}
    train = TrainConfig(num_epochs=2, schedule="cosine", optim_options=OPTIM, **same)
    fit(scene.model, scene.body, scene.train_set, train)
    return weights_of(scene.model)


@pytest.mark.parametrize("rung", ["sequential", "minibatch"])
def test_of_one_client_it_is_centralized_training(rung: str, centralized: torch.Tensor) -> None:
    assert torch.equal(climbed(run_of(1), rung), centralized)


def test_rungs_see_every_image_once_and_take_their_own_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, seen = run_of(3), {}
    scene = open_scene(config)
    for rung in ("sequential", "minibatch"):
        batches: list[np.ndarray] = []

        def note(model, body, sample, *rest, batches=batches, **more):
            batches.append(sample.index.numpy().copy())
            return {}

        monkeypatch.setattr(ladder, "train_step", note)
        ladder.climb(config, rung, world_of(config, scene), lambda _: None)
        seen[rung] = batches
    assert [len(b) for b in seen["minibatch"]] == [12, 12]
    assert [len(b) for b in seen["sequential"]] == [4] * 6
    for rung in seen:
        first = np.concatenate(seen[rung][: len(seen[rung]) // 2])
        assert sorted(first) == list(range(12))
    np.testing.assert_array_equal(
        np.concatenate(seen["sequential"]), np.concatenate(seen["minibatch"])
    )


def test_people_that_stay_where_they_are_make_it_federated_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(server={"client_state": "average"}, num_clients=4, clients_per_round=4)
    people = ToyPeople()
    world, other = toy_world(config, people=people), toy_world(config, people=people)
    result = run_federated(config, world, RunFolder(tmp_path))
    monkeypatch.setattr(ladder, "_dealt", lambda *_: other.partitions)
    ladder.climb(config, "redealt", other, lambda _: None)
    for name, tensor in other.model.state_dict().items():
        torch.testing.assert_close(result.state_dict[name], tensor, atol=1e-6, rtol=0)


def test_people_are_dealt_anew_each_round() -> None:
    config = config_of()
    one, two = (ladder._dealt(config, 120, number) for number in (1, 2))
    for parts in (one, two):
        assert sorted(np.concatenate(parts)) == list(range(120))
    assert not any(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.slow
def test_a_control_has_a_row_with_a_curve() -> None:
    plain = run_of(2)
    settings = {f.name: getattr(plain, f.name) for f in fields(FederateConfig)}
    run = LadderRun(**settings, rung="minibatch")
    row = measure(Job(run)).row
    assert row.kind == CONTROL and [p[:3] for p in row.curve] == [(1, 12, 0), (2, 24, 0)]
    assert row.curve[-1].mpjpe_mm == pytest.approx(row.scores["mpjpe_mm"], abs=1e-3)
    assert measure(Job(replace(run, rung="sequential"), is_trial=True)).row.curve == ()


def test_the_ladder_shares_its_federated_rungs_with_client_scale() -> None:
    made, scale = cells("ladder", "cpu", 1), cells("client-scale", "cpu", 1)
    assert {c.id for c in made if c.id.startswith("control-")} == {
        "control-sequential",
        "control-minibatch",
        "control-redealt",
    }
    shared = {c.id: c.base for c in scale if c.model == "fastmetro_xs"}
    for cell in made:
        if cell.id in shared:
            assert shared[cell.id] == cell.base
    assert {"10-of-10-clients-state-average", "control-minibatch"} <= {*shared}
