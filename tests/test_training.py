import copy
import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.config import OptimOptions, SettingError, TrainConfig
from pchmr.data import augment
from pchmr.data.augment import DEFAULT, PUBLISHED
from pchmr.data.sample import Subset
from pchmr.models import build_model
from pchmr.runs import RunFolder, state_sha256
from pchmr.training import fit, new_optimizer, schedule, train_epoch

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


def start_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.whole
def test_a_run_killed_at_any_rename_resumes_to_the_same_files(
    model, tiny_body, people, tmp_path: Path, monkeypatch
) -> None:
    """A process that dies after its n-th rename, whatever that put in place."""
    few = Subset(people, np.arange(3))
    two = config(num_epochs=2, optim_options=replace(OPTIONS, loss="keypoints"))
    start = start_of(model)
    run = RunFolder.create(tmp_path / "whole", two)
    fit(model, tiny_body, few, two, run=run)
    whole, rows = state_sha256(model.state_dict()), timeless(run)
    model.load_state_dict(start)
    # Not a fork of this process: it has trained, and autograd does not survive a fork.
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=die_often, args=(model, tiny_body, few, two, tmp_path / "dead"))
    child.start()
    child.join()
    assert child.exitcode == 0
    dead = sorted((tmp_path / "dead").iterdir())
    assert len(dead) > 5
    for folder in dead:
        model.load_state_dict(start)
        again = RunFolder.create(folder, replace(two, resume=True), resume=True)
        fit(model, tiny_body, few, replace(two, resume=True), run=again)
        assert state_sha256(model.state_dict()) == whole
        assert timeless(again) == rows


def die_often(model, body, people, two: TrainConfig, folder: Path) -> None:
    """Runs that die after one rename, after two, ..., until one lives."""
    torch.set_num_threads(1)
    for renames in range(1, 20):
        run = partial(first_run, model, body, people, two, folder / str(renames))
        if not killed_after(renames, run):
            return


def first_run(model, body, people, two: TrainConfig, folder: Path) -> None:
    own = copy.deepcopy(model)  # what came from another process shares its memory
    fit(own, body, people, two, run=RunFolder.create(folder, two))


def killed_after(renames: int, run: Callable[[], None]) -> bool:
    """Runs in a child that dies right after so many renames; whether it came to that."""
    child = os.fork()
    if child == 0:
        whole, seen = os.replace, []

        def replace_and_die(*places) -> None:
            whole(*places)
            seen.append(1)
            if len(seen) == renames:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace_and_die
        try:
            run()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def timeless(run: RunFolder) -> list[dict]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.read_rows()]


def test_a_damaged_state_falls_back_to_the_one_before(
    model, tiny_body, people, tmp_path: Path
) -> None:
    few, start = Subset(people, np.arange(5)), start_of(model)
    three, run = config(), RunFolder.create(tmp_path, config())

    class Stop(Exception):
        pass

    def stop_in_third(_: int, seen: list[int] = [0]) -> None:  # noqa: B006
        seen[0] += 1
        if seen[0] == 3:
            raise Stop

    with pytest.raises(Stop):
        fit(model, tiny_body, few, three, run=run, on_step=stop_in_third)
    state = tmp_path / "checkpoints" / "round_000002.safetensors"
    content = bytearray(state.read_bytes())
    for place in range(len(content) // 2, len(content), 400):
        content[place] ^= 0x80
    state.write_bytes(content)
    model.load_state_dict(start)
    resumed = replace(three, resume=True)
    assert [row["round"] for row in fit(model, tiny_body, few, resumed, run=run)] == [1, 2, 3]
    last = state_sha256(model.state_dict())
    model.load_state_dict(start)
    fit(model, tiny_body, few, three)
    assert state_sha256(model.state_dict()) == last
    (only,) = (tmp_path / "checkpoints").glob("*.safetensors")
    only.write_bytes(only.read_bytes()[:-9])
    model.load_state_dict(start)
    with pytest.raises(SettingError, match=r"--resume: no checkpoint .*without --resume"):
        fit(model, tiny_body, few, resumed, run=run)


def test_resuming_on_other_people_or_from_another_start_is_refused(
    model, tiny_body, people, tmp_path: Path
) -> None:
    few, two = Subset(people, np.arange(5)), config(num_epochs=2)
    start, run = start_of(model), RunFolder.create(tmp_path, two)
    fit(model, tiny_body, few, two, run=run)
    model.load_state_dict(start)
    resumed = replace(two, resume=True, num_epochs=3)
    with pytest.raises(SettingError, match="belongs to another data"):
        fit(model, tiny_body, Subset(people, np.arange(5, 10)), resumed, run=run)
    with torch.no_grad():
        next(iter(model.parameters())).add_(1.0)
    with pytest.raises(SettingError, match="belongs to another start weights"):
        fit(model, tiny_body, few, resumed, run=run)


def test_more_epochs_follow_and_a_finished_run_is_scored(
    model, tiny_body, people, tmp_path: Path
) -> None:
    few, start = Subset(people, np.arange(5)), start_of(model)
    fit(model, tiny_body, few, config(num_epochs=3))
    straight = state_sha256(model.state_dict())
    model.load_state_dict(start)
    run = RunFolder.create(tmp_path, config(num_epochs=2))
    fit(model, tiny_body, few, config(num_epochs=2), run=run)
    model.load_state_dict(start)
    more = config(num_epochs=3, evaluate_every=0, resume=True)
    run.require_same_config(more)
    fit(model, tiny_body, few, more, run=run)
    assert state_sha256(model.state_dict()) == straight
    model.load_state_dict(start)
    scored = []
    fit(model, tiny_body, few, more, run=run,
        evaluate_fn=lambda m: scored.append(state_sha256(m.state_dict())) or {})  # fmt: skip
    assert scored == [straight]
    model.load_state_dict(start)
    with pytest.raises(SettingError, match="3 epochs are finished"):
        fit(model, tiny_body, few, config(num_epochs=2, resume=True), run=run)
    with pytest.raises(SettingError, match="another schedule"):
        run.require_same_config(config(num_epochs=3, schedule="cosine"))


@pytest.mark.parametrize("place", ["round_000001.safetensors", "round_000001.json", "metrics"])
def test_a_full_disk_is_one_line(model, tiny_body, people, tmp_path, monkeypatch, place) -> None:
    """Whatever is written when the disk is full, the line names it and nothing is half there."""
    run = RunFolder.create(tmp_path, config(num_epochs=1))
    whole = os.fsync

    def full(handle: int) -> None:
        if place in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingError, match="No space left on device; free some space"):
        fit(model, tiny_body, Subset(people, np.arange(2)), config(num_epochs=1), run=run)
    assert not list(tmp_path.rglob(".*")) and run.read_rows() == []


def test_paper_losses_bring_the_published_augmentation(
    model, tiny_body, people, monkeypatch
) -> None:
    seen = []
    monkeypatch.setattr(
        augment,
        "changed_batch",
        lambda of, rows, _, extent: seen.append(extent) or of.batch(rows),
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
