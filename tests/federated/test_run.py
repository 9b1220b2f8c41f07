"""Whole runs: records, determinism, resume bit for bit, and runs that were killed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import ToyPeople, config_of, folder, world_of

from pchmr.config import PrivacyOptions, SettingError
from pchmr.data.partition import partition_hash
from pchmr.federated import run_federated
from pchmr.federated.rounds import client_seed, cohort
from pchmr.runs import state_sha256


def run(config, path: Path, **more):
    world = world_of(config)
    return world, run_federated(config, world, folder(path), **more)


def test_rows_tell_who_took_part_what_left_and_what_was_seen(tmp_path):
    config = config_of()
    told = []
    world, result = run(config, tmp_path, on_round=told.append)
    rows = folder(tmp_path).read_rows()
    assert rows == json.loads(json.dumps(result.rows)) == told
    for number, row in enumerate(rows, start=1):
        assert row["round"] == number
        assert row["cohort"] == cohort(config.seed, number, 6, 3)
        assert row["client_samples"] == [len(world.partitions[c]) for c in row["cohort"]]
        assert row["num_samples"] == sum(row["client_samples"])
        assert row["quarantined"] == []
        assert row["left_client"]["schema"] == "pchmr/update/v1"
        size = sum(p.numel() for p in world.model.parameters())
        assert row["left_client"]["arrays"] == {
            "delta": f"float32[{size}]",
            "buffers": "float32[64]",
        }
        assert row["server_saw"] == {
            "individual_updates": 3, "sample_counts": 3, "aggregate": True,
        }  # fmt: skip
        assert 3 * 4 * (size + 64) < row["bytes_up"] < row["bytes_down"]
        assert row["seconds"] > 0
    assert result.bytes_up == sum(row["bytes_up"] for row in rows)
    assert "individual updates" in result.egress["server_sees"]
    assert "delta float32" in result.egress["leaves_client"]
    stored = folder(tmp_path).read_json("partition.json")
    assert stored["sha256"] == partition_hash(world.partitions)
    assert stored["clients"] == [rows.tolist() for rows in world.partitions]
    losses = [row["losses"]["total"] for row in rows]
    assert losses[-1] < losses[0]


def test_same_seed_same_end_and_another_seed_another(tmp_path):
    ends = [
        state_sha256(run(config_of(seed=seed), tmp_path / name)[1].state_dict)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert ends[0] == ends[1] != ends[2]


def test_one_client_with_all_data_is_one_centralized_epoch(tmp_path):
    config = config_of(num_clients=1, clients_per_round=1, num_rounds=1)
    central = world_of(config)
    optimizer = central.training.new_optimizer(central.model)
    start = [p.detach().clone() for p in central.model.parameters()]
    central.training.train_epoch(
        central.model, central.train_set, optimizer,
        seed=client_seed(config.seed, 0, 0), epoch=0.0,
    )  # fmt: skip
    world, _ = run(config, tmp_path)
    for a, b, s in zip(central.model.parameters(), world.model.parameters(), start, strict=True):
        larger = torch.maximum(a.detach().abs(), s.abs()).numpy()
        assert (np.abs((a - b).detach().numpy()) <= np.spacing(larger)).all()
    for a, b in zip(central.model.buffers(), world.model.buffers(), strict=True):
        assert torch.equal(a, b) or not a.is_floating_point()


def test_scores_come_when_they_are_due_and_of_the_global_model(tmp_path):
    seen = []

    def score(model):
        seen.append(state_sha256(model.state_dict()))
        return {"mpjpe_mm": float(len(seen))}

    _, result = run(config_of(num_rounds=5, evaluate_every=2), tmp_path, evaluate_fn=score)
    assert [row.get("mpjpe_mm") for row in result.rows] == [None, 1.0, None, 2.0, 3.0]
    assert seen[-1] == state_sha256(result.state_dict)
    _, bare = run(config_of(num_rounds=5), tmp_path / "bare")
    assert state_sha256(bare.state_dict) == seen[-1]


class Stopped(Exception):
    """Somebody pulled the plug."""


def stop_after(number: int):
    def note(row):
        if row["round"] == number:
            raise Stopped

    return note


@pytest.mark.parametrize(
    ("algorithm", "server"),
    [("fedavg", {}), ("fedadam", {}), ("scaffold", {}), ("fedavg", {"batch_norm": "local"})],
)
def test_resume_is_bit_identical(algorithm, server, tmp_path):
    config = config_of(server, num_rounds=6, algorithm=algorithm)
    _, whole = run(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(config, tmp_path / "cut", on_round=stop_after(4))
    told = []
    resumed = replace(config, resume=True, output=Path("elsewhere"))
    _, result = run(resumed, tmp_path / "cut", on_round=lambda row: told.append(row["round"]))
    assert state_sha256(result.state_dict) == state_sha256(whole.state_dict)
    assert told == [1, 2, 3, 4, 5, 6]
    assert [row["round"] for row in folder(tmp_path / "cut").read_rows()] == told
    assert len(list((tmp_path / "cut" / "checkpoints").iterdir())) == 2
    kept = list((tmp_path / "cut").glob("clients/*"))
    assert bool(kept) == (server.get("batch_norm") == "local")
    _, done = run(resumed, tmp_path / "cut")
    assert state_sha256(done.state_dict) == state_sha256(whole.state_dict)


def test_resume_goes_back_past_a_damaged_checkpoint(tmp_path):
    config = config_of(num_rounds=5, algorithm="scaffold")
    _, whole = run(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(config, tmp_path / "cut", on_round=stop_after(4))
    newest = max((tmp_path / "cut" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    _, result = run(replace(config, resume=True), tmp_path / "cut")
    assert state_sha256(result.state_dict) == state_sha256(whole.state_dict)
    assert [row["round"] for row in folder(tmp_path / "cut").read_rows()] == [1, 2, 3, 4, 5]


SECURE = PrivacyOptions(aggregation="secure")


@pytest.mark.parametrize(
    ("changes", "server", "gone"),
    [
        ({"algorithm": "scaffold"}, {}, "their control variates"),
        ({}, {"client_state": "keep"}, "the state of their optimizers"),
        ({"privacy_options": SECURE, "clients_per_round": 5}, {}, "what rounding left over"),
        ({}, {}, None),
        ({"algorithm": "fedadam"}, {"client_state": "average"}, None),
        ({"algorithm": "scaffold"}, {"batch_norm": "local"}, None),  # clients keep all
    ],
)
def test_a_run_that_ended_is_lengthened_only_if_its_clients_forgot_nothing(
    changes, server, gone, tmp_path
):
    def settings(num_rounds, **more):
        return config_of(server, num_rounds=num_rounds, **changes, **more)

    run(settings(2), tmp_path)
    kept = (tmp_path / "metrics.jsonl").read_bytes()
    longer = settings(3, resume=True)
    if gone:
        with pytest.raises(SettingError, match=f"{gone}: give --num-rounds 2, or start"):
            run(longer, tmp_path)
        assert (tmp_path / "metrics.jsonl").read_bytes() == kept
        run(settings(2, resume=True), tmp_path)
        return
    _, result = run(longer, tmp_path)
    _, whole = run(settings(3), tmp_path / "whole")
    assert state_sha256(result.state_dict) == state_sha256(whole.state_dict)


@pytest.mark.parametrize("privacy", [PrivacyOptions(), SECURE])
def test_a_run_that_was_stopped_is_lengthened_with_its_clients(privacy, tmp_path):
    def settings(num_rounds, **more):
        return config_of(
            {"client_state": "keep"}, num_rounds=num_rounds, clients_per_round=6,
            privacy_options=privacy, **more,
        )  # fmt: skip

    with pytest.raises(Stopped):
        run(settings(2), tmp_path, on_round=stop_after(2))
    _, result = run(settings(3, resume=True), tmp_path)
    assert len(result.rows) == 3
    if not privacy.is_secure:  # whose roundings are the system's
        _, whole = run(settings(3), tmp_path / "whole")
        assert state_sha256(result.state_dict) == state_sha256(whole.state_dict)


def test_resume_refuses_another_config_or_other_data(tmp_path):
    config = config_of(resume=True)
    run(config, tmp_path)  # nothing to resume yet: starts anew
    with pytest.raises(SettingError, match="another settings"):
        run(replace(config, local_epochs=2), tmp_path)
    world = world_of(config, people=ToyPeople(content_hash="other"))
    with pytest.raises(SettingError, match="another data"):
        run_federated(config, world, folder(tmp_path))
    world = world_of(config)
    with torch.no_grad():
        next(iter(world.model.backbone.parameters())).add_(1.0)
    with pytest.raises(SettingError, match="another start weights"):
        run_federated(config, world, folder(tmp_path))
    world = world_of(config)
    world.partitions = world.partitions[::-1]
    with pytest.raises(SettingError, match="another partition"):
        run_federated(config, world, folder(tmp_path))


def test_without_resume_an_earlier_run_leaves_no_trace(tmp_path):
    config = config_of(algorithm="scaffold")
    _, first = run(config, tmp_path)
    _, second = run(config, tmp_path)
    assert state_sha256(first.state_dict) == state_sha256(second.state_dict)
    assert len(folder(tmp_path).read_rows()) == 3


def test_head_only_leaves_the_backbone_alone(tmp_path):
    config = config_of({"trainable": "head"})
    before = world_of(config).model.backbone.state_dict()
    world, result = run(config, tmp_path)
    assert all(torch.equal(before[k], v) for k, v in world.model.backbone.state_dict().items())
    assert not any(row["quarantined"] for row in result.rows)
    assert result.bytes_up < run(config_of(), tmp_path / "all")[1].bytes_up
    assert all(p.requires_grad for p in world.model.parameters())


def test_partition_must_fit_the_config(tmp_path):
    world = world_of(config_of())
    with pytest.raises(SettingError, match="--num-clients 5"):
        run_federated(config_of(num_clients=5), world, folder(tmp_path))


KILLS = """
import socket, sys
def refuse(*arguments): raise RuntimeError("a connection was tried")
socket.socket.connect = refuse
from pchmr.bench.faults import damage_and_resume, kill_and_resume
kills, damages, seed = map(int, sys.argv[1:])
found = kill_and_resume(kills, seed=seed)
assert found["killed"] == found["identical"] == kills, found
found = damage_and_resume(damages)
assert found["damaged"] == found["identical"] + found["refused"] == damages, found
assert found["identical"] > 0 or not damages, found
assert "ray" not in sys.modules
"""


def kill(times: int, damages: int, seed: int, folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("FLWR")}
    env |= {"OMP_NUM_THREADS": "1", "HOME": str(home), "MPLCONFIGDIR": str(folder / "mpl")}
    call = [sys.executable, "-c", KILLS, str(times), str(damages), str(seed)]
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []


@pytest.mark.whole
def test_killed_and_damaged_runs_resume_with_nothing_at_home_and_no_connection(tmp_path):
    """Two runs killed by signal 9, three checkpoints damaged; in one process, for its start."""
    kill(2, 3, seed=1, folder=tmp_path)


@pytest.mark.slow
def test_kill_9_at_fifty_moments_and_resume(tmp_path):
    kill(50, 20, seed=2, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_ray_ends_with_the_same_weights(algorithm, tmp_path):
    pytest.importorskip("ray", reason="the extra: pip install 'pchmr[ray]'")
    config = config_of(algorithm=algorithm, num_rounds=2)
    ends = [
        state_sha256(run(replace(config, engine=engine), tmp_path / engine)[1].state_dict)
        for engine in ("inprocess", "ray")
    ]
    assert ends[0] == ends[1]


def test_ray_that_is_not_installed_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("pchmr.federated.flower.ray_engine.find_spec", lambda name: None)
    with pytest.raises(SettingError, match="pip install"):
        run(config_of(engine="ray"), tmp_path)
