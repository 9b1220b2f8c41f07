"""Start models over the mean pose of their draw, on few people."""

import pytest
import torch

from pchmr.bench import start
from pchmr.body import BodyModel
from pchmr.config import BenchConfig, ModelOptions
from pchmr.models import load_model


class AlwaysUpright(torch.nn.Module):
    """Says the same small body of everybody."""

    image_size = 112

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.network = load_model(ModelOptions(), body.hierarchy, seed=0)[0].eval()
        self.hierarchy = self.network.hierarchy

    def forward(self, images: torch.Tensor):
        return self.network(torch.zeros_like(images))


@pytest.mark.whole
def test_a_model_that_looks_is_below_one_and_one_that_does_not_is_not(body: BodyModel) -> None:
    model, _ = load_model(ModelOptions(), body.hierarchy, seed=0)
    looks, blind = start.ratios(body, [model.eval(), AlwaysUpright(body)], "A", 7, count=24)
    assert looks < 0.7 < blind
    again, _ = start.ratios(body, [model, model], "A", 8, count=24)
    assert again != looks  # other people


def test_every_start_model_has_a_row_for_each_draw_with_its_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start, "ratios", lambda body, models, domain, seed: [0.4] * len(models))
    rows = list(start.tables(BenchConfig(name="start")))
    assert len(rows) == 2 * 2 * 5
    assert {row.label.split(",")[0] for row in rows} == {"fastmetro_xs", "tore_xs"}
    bounds = {row.label.split(", ")[1]: row.target.bound for row in rows if row.target}
    assert bounds == {"A": 0.33, "B": 0.55}
    assert all(row.started_from is not None and row.started_from.sha256 for row in rows)
    assert len({row.seed for row in rows}) == 5
