"""Start models over the mean pose of their draw, on few people."""

import pytest

from pchmr.bench import start
from pchmr.body import BodyModel
from pchmr.config import BenchConfig, ModelOptions
from pchmr.models import load_model


@pytest.mark.whole
def test_what_was_trained_is_far_below_the_mean_pose_and_random_weights_are_not(
    body: BodyModel,
) -> None:
    model, _ = load_model(ModelOptions(), body.hierarchy, seed=0)
    blind, _ = load_model(ModelOptions(from_scratch=True), body.hierarchy, seed=0)
    trained, untrained = start.ratios(body, [model.eval(), blind.eval()], "A", 7, count=24)
    assert trained < 0.7 < untrained
    again, same = start.ratios(body, [model, model], "A", 8, count=24)
    assert again == same != trained  # other people


@pytest.mark.whole
def test_others_beside_cost_the_start_model_little(body: BodyModel) -> None:
    model, _ = load_model(ModelOptions(), body.hierarchy, seed=0)
    (ratio,) = start.among_others(body, [model.eval()], "A", 7, count=40)
    assert 0.95 < ratio < 1.2 and ratio != 1  # they were there


def test_every_start_model_has_a_row_for_each_draw_with_its_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ratios", "among_others"):
        monkeypatch.setattr(start, name, lambda body, models, domain, seed: [0.4] * len(models))
    rows = list(start.tables(BenchConfig(name="start")))
    assert len(rows) == 3 * 2 * 5
    assert {row.label.split(",")[0] for row in rows} == {"fastmetro_xs", "tore_xs"}
    aims = [row for row in rows if row.target and row.target.bound]
    bounds = {row.label.split(", ")[1]: row.target.bound for row in aims if row.target}
    assert bounds == {"A": 0.33, "B": 0.55}
    assert all(row.started_from is not None and row.started_from.sha256 for row in rows)
    assert len({row.seed for row in rows}) == 5
