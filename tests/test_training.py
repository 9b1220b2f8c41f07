from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr import training
from pchmr.config import OptimOptions, SettingError, TrainConfig
from pchmr.data.augment import DEFAULT, PUBLISHED
from pchmr.data.sample import Subset
from pchmr.models import build_model
from pchmr.runs import RunFolder, state_sha256
from pchmr.training import (
    STATE,
    fit,
    load_state,
    new_optimizer,
    save_state,
    schedule,
    train_epoch,
)

OPTIONS = OptimOptions(batch_size=5, learning_rate=1e-3)


@pytest.fixture
def model(tiny_body):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("fastmetro_xs", tiny_body.hierarchy, image_size=64)


@pytest.fixture
def people(tiny_body, make_people):
    return make_people(tiny_body, count=12, size=64)


def config(**changes) -> TrainConfig:
    return replace(TrainConfig(num_epochs=3, optim_options=OPTIONS), **changes)


def test_an_epoch_sees_every_sample_and_repeats_bit_for_bit(model, tiny_body, people) -> None:
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hashes = []
    for noise in (1, 2):
        model.load_state_dict(start)
        torch.manual_seed(noise)
        stats = train_epoch(
            model, tiny_body, people, new_optimizer(model, OPTIONS), OPTIONS, seed=3
        )
        assert stats.num_samples == len(people)
        assert all(value >= 0 for value in stats.losses.values())
        hashes.append(state_sha256(model.state_dict()))
    assert hashes[0] == hashes[1] != state_sha256(start)


def test_loss_falls(model, tiny_body, people) -> None:
    options = replace(OPTIONS, augment=False, learning_rate=2e-3, clip=10.0)
    optimizer = new_optimizer(model, options)
    losses = [
        sum(train_epoch(model, tiny_body, people, optimizer, options, seed=s).losses.values())
        for s in range(12)
    ]
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_fit_resumes_to_the_same_weights(
    model, tiny_body, people, tmp_path: Path
) -> None:
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model, tiny_body, people, config())
    straight = state_sha256(model.state_dict())

    class Stop(Exception):
        pass

    def stop_in_second_epoch(_: int, seen: list[int] = [0]) -> None:  # noqa: B006
        seen[0] += 1
        if seen[0] == 4:
            raise Stop

    model.load_state_dict(start)
    run = RunFolder.create(tmp_path, config())
    with pytest.raises(Stop):
        fit(model, tiny_body, people, config(), run=run, on_step=stop_in_second_epoch)
    model.load_state_dict(start)
    rows = fit(model, tiny_body, people, config(resume=True), run=run)
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert [row["round"] for row in run.read_rows()] == [1, 2, 3]
    assert state_sha256(model.state_dict()) == straight


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_torn_state_is_one_line(kept, model, tiny_body, people, tmp_path: Path) -> None:
    one = config(num_epochs=1)
    run = RunFolder.create(tmp_path, one)
    fit(model, tiny_body, Subset(people, np.arange(2)), one, run=run)
    state = tmp_path / STATE
    content = state.read_bytes()
    state.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SettingError, match=r"--resume: .*is damaged .*without --resume") as caught:
        fit(model, tiny_body, people, replace(one, resume=True), run=run)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_network_is_one_line(model, tiny_body, people, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config(num_epochs=1))
    options = config().optim_options
    save_state(run, model, new_optimizer(model, options), 1)
    other = build_model("tore_xs", tiny_body.hierarchy, image_size=64)
    with pytest.raises(SettingError, match=r"--resume: .*is damaged"):
        load_state(run, other, new_optimizer(other, options))


def test_paper_losses_bring_the_published_augmentation(
    model, tiny_body, people, monkeypatch
) -> None:
    seen = []
    monkeypatch.setattr(
        training, "augment", lambda sample, _, extent: seen.append(extent) or sample
    )
    few = Subset(people, np.arange(2))
    for changes in ({}, {"paper_losses": True}, {"paper_losses": True, "paper_augment": False}):
        options = replace(OPTIONS, learning_rate=0.0, **changes)
        train_epoch(model, tiny_body, few, new_optimizer(model, options), options, seed=0)
    assert seen == [DEFAULT, PUBLISHED, DEFAULT]


def test_scores_come_in_as_a_function(model, tiny_body, people) -> None:
    rows = fit(model, tiny_body, people, config(evaluate_every=2),
               evaluate_fn=lambda _: {"mpjpe_mm": 1.0})  # fmt: skip
    assert ["mpjpe_mm" in row for row in rows] == [False, True, True]


def test_the_keypoint_head_trains_first_and_alone(model, tiny_body, people) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = fit(model, tiny_body, people, config(num_epochs=1, keypoint_epochs=1))
    assert set(rows[0]["losses"]) == {"maps", "places", "depths"}
    changed = {n.split(".")[0] for n, t in model.state_dict().items() if not t.equal(before[n])}
    assert changed == {"backbone", "keypoint_head"}


def test_a_diverged_loss_is_one_line(model, tiny_body, people) -> None:
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    with pytest.raises(SettingError, match="lower --learning-rate"):
        train_epoch(model, tiny_body, people, new_optimizer(model, OPTIONS), OPTIONS, seed=0)


def test_schedules() -> None:
    assert [schedule("constant", 4)(e) for e in (0.0, 3.9)] == [1.0, 1.0]
    assert [schedule("step", 4)(e) for e in (1.9, 2.0)] == [1.0, 0.1]
    cosine = schedule("cosine", 4)
    assert cosine(0.0) == 1.0 and cosine(2.0) == pytest.approx(0.5) and cosine(4.0) == 0.01
    warm = schedule("constant", 4, warmup_epochs=2.0)
    assert warm(0.0) < 0.01 and warm(1.0) == pytest.approx(0.5, abs=0.01) and warm(2.0) == 1.0
    second_stage = schedule("cosine", 4, first_epoch=2)
    assert second_stage(2.0) == 1.0 and second_stage(4.0) == pytest.approx(0.5)
