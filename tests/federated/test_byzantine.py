"""Clients that mean harm: they take part as told, and the defences see what they should."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyPeople, config_of, world_of

from pchmr.bench.byzantine import MISLABELED, Mislabeled, change_of, under_attack
from pchmr.bench.cell import Job, measure
from pchmr.config import DataOptions, FederateConfig, OptimOptions
from pchmr.federated import World, run_federated
from pchmr.recipes import hostile
from pchmr.recipes.cells import AttackedRun, Scale
from pchmr.recipes.comparisons import cells
from pchmr.recipes.hostile import ATTACKS, SWEEP_IMAGES, honest_row_of
from pchmr.recipes.rows import Rows
from pchmr.runs import RunFolder

NUM_BAD, NUM_CLIENTS = 3, 10


def attacked(attack: str, *, gate: bool = True, trimmed: int | None = None) -> AttackedRun:
    plain = config_of(
        {"trimmed_replies": trimmed},
        num_clients=NUM_CLIENTS,
        clients_per_round=NUM_CLIENTS,
        num_rounds=2,
        optim_options=OptimOptions(learning_rate=1e-2, batch_size=40, clip=100.0),
    )
    settings = {f.name: getattr(plain, f.name) for f in fields(FederateConfig)}
    return AttackedRun(**settings, attack=attack, num_bad=NUM_BAD, gate=gate)


def ends(run: FederateConfig, folder: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """How far the weights moved, and the rows."""
    world = world_of(run)
    start = flat(world)
    met = under_attack(run, world)
    rows = run_federated(
        met.config, met.world, RunFolder(folder), engine=met.engine, gate=met.gate
    ).rows
    return flat(world) - start, rows


def flat(world: World) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in world.model.parameters()]).numpy()


def honest(run: AttackedRun) -> FederateConfig:
    return FederateConfig(**{f.name: getattr(run, f.name) for f in fields(FederateConfig)})


def test_every_attack_is_known() -> None:
    assert all(name == MISLABELED or change_of(name) for name in ATTACKS)


def test_large_updates_are_set_aside_and_harm_where_there_is_no_gate(tmp_path: Path) -> None:
    run = attacked("updates times 100")
    moved, rows = ends(run, tmp_path / "gate")
    told = [(found["client_id"], found["reason"]) for row in rows for found in row["quarantined"]]
    assert told == [(client, "norm") for _ in rows for client in range(NUM_BAD)]
    plain, _ = ends(honest(run), tmp_path / "honest")
    harmed, rows = ends(replace(run, gate=False), tmp_path / "open")
    assert not any(row["quarantined"] for row in rows)
    assert np.linalg.norm(harmed) > 5 * np.linalg.norm(plain)
    assert np.linalg.norm(moved) < 2 * np.linalg.norm(plain)


def test_a_trimmed_mean_needs_no_gate_against_large_updates(tmp_path: Path) -> None:
    run = attacked("updates times 100", gate=False)
    plain, _ = ends(honest(run), tmp_path / "honest")
    mean, _ = ends(run, tmp_path / "mean")
    trimmed, _ = ends(attacked(run.attack, gate=False, trimmed=NUM_BAD), tmp_path / "trimmed")
    assert np.linalg.norm(trimmed - plain) < 0.2 * np.linalg.norm(mean - plain)


def test_wrong_labels_go_round_among_the_bad_rows_alone() -> None:
    people, bad = ToyPeople(), np.array([4, 7, 30])
    mislabeled = Mislabeled.of(people, bad)
    rows = np.arange(len(people))
    truth, told = people.batch(rows), mislabeled.batch(rows)
    wrong = (truth.transl != told.transl).any(dim=1).numpy()
    assert np.flatnonzero(wrong).tolist() == bad.tolist()
    assert torch.equal(told.transl[bad], truth.transl[[30, 4, 7]])
    assert torch.equal(told.index, truth.index)


@pytest.mark.whole
def test_a_cell_is_measured_with_real_people() -> None:
    tiny = Scale(
        models=("fastmetro_xs",),
        data=DataOptions(num_samples=20, num_test_samples=6, data_seed=0, image_size=64),
        optim=OptimOptions(batch_size=4, clip=1.0),
        num_seen=40,
    )
    cell = hostile.attacked(Rows(tiny, "fastmetro_xs", 0), "updates times 100", 3, gate=True)
    row = measure(Job(cell.base)).row
    assert row.quarantined == 3 * 2
    assert row.measures["mpjpe_mm"] > 0


def test_rows_of_the_comparison() -> None:
    made = {cell.name: cell.base for cell in cells("byzantine", "cpu", 1)}
    run = made[f"{MISLABELED}, 1 of 10 clients, trimmed by 3"]
    assert isinstance(run, AttackedRun)
    assert (run.num_bad, run.gate, run.num_clients) == (1, True, 10)
    assert len([name for name in made if "no gate" in name]) == 2 * len(ATTACKS)


def test_rows_of_the_sweep_have_ids_of_their_own_and_an_honest_row() -> None:
    made = {cell.id: cell.base for cell in cells("byzantine", "cpu", 1)}
    assert len(made) == len(cells("byzantine", "cpu", 1))
    attacked = [id_ for id_, run in made.items() if isinstance(run, AttackedRun)]
    assert {honest_row_of(id_) for id_ in attacked} <= set(made) - set(attacked)
    for prefix in ("few-iid-", "few-skewed-"):
        assert made[f"{prefix}honest"].data_options.num_samples == SWEEP_IMAGES
    assert honest_row_of("few-skewed-updates-times--27-3-bad") == "few-skewed-honest"
