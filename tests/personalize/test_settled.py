"""Which model knows a setting: the shipped one for the weights it was taught from, no other."""

import copy
from pathlib import Path

import pytest
import torch

from pchmr.body import load_body
from pchmr.config import ModelOptions
from pchmr.models import HMRModel, load_model, save_checkpoint
from pchmr.personalize import settled
from pchmr.personalize.settled import NUM_BESIDE, NUM_OTHERS, TAUGHT_FROM
from pchmr.runs import state_sha256


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HMRModel:
    """Start weights, whose changed copy is shipped as knowing V."""
    model, _ = load_model(ModelOptions(), load_body().hierarchy, seed=0)
    knows = copy.deepcopy(model)
    with torch.no_grad():
        next(knows.parameters()).zero_()
    monkeypatch.setattr(settled, "SHIPPED", tmp_path)
    note = {TAUGHT_FROM: state_sha256(model.state_dict())}
    save_checkpoint(settled.shipped_path(model.name, "V"), knows, note)
    return model


def test_shipped_for_these_weights(shared: HMRModel) -> None:
    found = settled.shipped_model(shared, "V")
    assert found is not None and not next(found.parameters()).any()
    assert settled.num_others(shared, "V") == NUM_BESIDE


def test_not_for_another_setting_or_other_weights(shared: HMRModel) -> None:
    assert settled.shipped_model(shared, "B") is None
    other = copy.deepcopy(shared)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert settled.shipped_model(other, "V") is None
    assert settled.num_others(other, "V") == NUM_OTHERS
