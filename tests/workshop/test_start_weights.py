"""The rows that shipped start weights bring, from their cards."""

import json

import pytest

from pchmr.models.checkpoint import SHIPPED
from pchmr.workshop.start_weights import DOMAINS, rows


@pytest.mark.parametrize("model", ["fastmetro_xs", "tore_xs"])
def test_rows_repeat_the_card(model: str) -> None:
    card = json.loads((SHIPPED / f"{model}.json").read_text())
    found = {row.label: row for row in rows(model, card)}
    for domain in DOMAINS:
        scores = card["scores_of_stored_weights"][domain]["model"]
        assert found[f"{model}, {domain}, as stored"].scores == scores
    ratio = found[f"{model}, A: MPJPE over that of the mean pose"].measures["value"]
    error, constant = card["run"]["after"], card["run"]["baselines"]["mean_pose"]
    assert ratio == pytest.approx(error["mpjpe_mm"] / constant["mpjpe_mm"], abs=1e-4)
