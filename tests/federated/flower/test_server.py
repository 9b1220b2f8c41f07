"""The server's rounds under faults: what is broken is set aside, and the run goes on."""

import numpy as np
import pytest
import torch
from toy import config_of, folder, world_of

from pchmr.bench.faults import inject
from pchmr.bench.tampering import FAULTS, HARMLESS, FaultyGrid, changed_array
from pchmr.config import SettingError
from pchmr.federated import ENGINES, run_federated
from pchmr.federated.flower.api import SharedArray, new_context
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.engines import RUN_ID, Engine
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server_app import make_server_app
from pchmr.runs import state_sha256

REASONS = {
    "nan": "non_finite",
    "infinity": "non_finite",
    "times 1e8": "norm",
    "square overflows": "norm",
    "negative variance": "buffers",
    "statistics times 1e6": "buffers",
    "nan in statistics": "non_finite",
    "negative samples": "num_samples",
    "no samples": "num_samples",
    "1e12 samples": "num_samples",
    "all samples there are": "num_samples",
    "too many steps": "num_samples",
    "a step too many": "num_samples",
    "nan loss": "non_finite",
    "path in an error": "client_error",
    "error without reason": "client_error",
    "dropped": "no_reply",
    "answers nobody": "no_reply",
    "sent twice": "duplicate",
    "broken copy after it": "duplicate",
    "stranger beside it": "unknown_sender",
}


def tampered(monkeypatch, names) -> list[FaultyGrid]:
    """Makes the in-process engine break replies: one name (or None) a reply, then none."""
    rest, grids = iter(names), []

    def run(server, world, states) -> None:
        app = make_client_app(Residence(world, states), SharedArray)
        grid = FaultyGrid(app, server.config.num_clients, RUN_ID, choose=lambda: next(rest, None))
        grids.append(grid)
        make_server_app(server)(grid, new_context(RUN_ID, 0))

    monkeypatch.setitem(ENGINES, "inprocess", Engine(SharedArray, run))
    return grids


def flat_of(model) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


@pytest.mark.parametrize("name", sorted(FAULTS | HARMLESS))
def test_every_fault_has_its_code_and_leaves_the_mean_of_the_good(name, monkeypatch, tmp_path):
    config = config_of(num_rounds=1)
    world = world_of(config)
    start = flat_of(world.model).astype(np.float64)
    grids = tampered(monkeypatch, [None, name])
    row = run_federated(config, world, folder(tmp_path)).rows[0]
    (attempt,) = grids[0].attempts
    assert len(attempt.good()) == (3 if name in HARMLESS else 2)
    total = sum(n for _, _, n in attempt.good())
    expected = start + sum(n * delta for delta, _, n in attempt.good()) / total
    np.testing.assert_allclose(flat_of(world.model), expected, atol=1e-6)
    reasons = {found["reason"] for found in row["quarantined"]}
    assert reasons == {REASONS.get(name, "schema")} | (
        {"unknown_sender"} if name == "answers nobody" else set()
    )
    assert row["num_samples"] == total
    assert "IMG_0001" not in (tmp_path / "metrics.jsonl").read_text()


def test_too_few_good_replies_draw_a_fresh_cohort(monkeypatch, tmp_path):
    config = config_of(num_rounds=1)
    grids = tampered(monkeypatch, ["nan", "dropped", None])
    row = run_federated(config, world_of(config), folder(tmp_path)).rows[0]
    first, second = grids[0].attempts
    assert sorted(second.spared) == row["cohort"]
    assert set(first.honest) != set(second.honest)
    assert row["changed"]
    assert len(row["quarantined"]) == 2


def test_a_lost_round_keeps_the_model_and_the_next_goes_on(monkeypatch, tmp_path):
    config = config_of(num_rounds=2)
    world = world_of(config)
    tampered(monkeypatch, ["infinity"] * 9)
    rows = run_federated(config, world, folder(tmp_path)).rows
    assert [row["changed"] for row in rows] == [False, True]
    assert rows[0]["losses"] == {"total": None}
    assert np.isfinite(flat_of(world.model)).all()


def test_a_run_without_a_good_round_says_so_and_leaves_the_model(monkeypatch, tmp_path):
    config = config_of(num_rounds=2)
    world = world_of(config)
    before = state_sha256(world.model.state_dict())
    tampered(monkeypatch, ["wrong shape"] * 18)
    with pytest.raises(SettingError, match=r"no round had enough good replies.*schema"):
        run_federated(config, world, folder(tmp_path))
    assert state_sha256(world.model.state_dict()) == before


def test_minimum_of_good_replies_is_a_setting(monkeypatch, tmp_path):
    names = ["nan", "nan", None]
    for least, changed_cohorts in ((1, 1), (3, 2)):
        config = config_of(num_rounds=1, server={"min_good_replies": least})
        grids = tampered(monkeypatch, names)
        run_federated(config, world_of(config), folder(tmp_path / str(least)))
        assert len(grids[0].attempts) == changed_cohorts


def test_trimmed_replies_withstand_what_the_gate_cannot_tell(monkeypatch, tmp_path):
    """One client of three sends its update backwards, at ordinary length."""
    backwards = changed_array(np.negative)
    monkeypatch.setitem(FAULTS, "backwards", backwards)
    ends = {}
    for trim, names in ((None, []), (None, ["backwards"]), (1, []), (1, ["backwards"])):
        config = config_of(num_rounds=1, server={"trimmed_replies": trim})
        world = world_of(config)
        start = flat_of(world.model)
        grid = tampered(monkeypatch, names)
        run_federated(config, world, folder(tmp_path / f"{trim}{names}"))
        ends[trim, bool(names)] = flat_of(world.model) - start
        honest = [delta for delta, _, _ in grid[0].attempts[0].honest.values()]
    along = np.mean(honest, axis=0)
    moved = {key: float(end[: len(along)] @ along) for key, end in ends.items()}
    assert moved[None, True] < moved[1, True] < moved[1, False]


def test_trimming_needs_more_good_replies_than_it_leaves_out(monkeypatch, tmp_path):
    config = config_of(num_rounds=1, server={"trimmed_replies": 1})
    grids = tampered(monkeypatch, ["nan", None, None])
    run_federated(config, world_of(config), folder(tmp_path))
    assert len(grids[0].attempts) == 2
    for settings in ({"trimmed_replies": 2}, {"trimmed_replies": 1, "min_good_replies": 2}):
        with pytest.raises(SettingError, match="must be more"):
            config_of(server=settings)
    with pytest.raises(SettingError, match="not by scaffold"):
        config_of(algorithm="scaffold", server={"trimmed_replies": 1})


def test_deadline_leaves_out_the_late(tmp_path):
    config = config_of(num_rounds=1, server={"deadline_seconds": 1e-9})
    with pytest.raises(SettingError, match="no_reply"):
        run_federated(config, world_of(config), folder(tmp_path))


def test_overflow_stops_with_the_cure(tmp_path):
    config = config_of(server={"server_learning_rate": 1e38})
    with pytest.raises(SettingError, match="lower --server-learning-rate"):
        run_federated(config, world_of(config), folder(tmp_path))


def test_random_faults():
    counts = inject(45)
    assert counts["injected"] >= 45
    assert (counts["wrong"], counts["died"]) == (0, 0)


def test_the_audit_would_notice_an_open_gate(monkeypatch):
    monkeypatch.setattr(
        "pchmr.federated.validation.Gate.admit", lambda self, update, statistics, variances: 0.0
    )
    assert inject(30)["wrong"] > 0
