"""Which model knows a setting: the shipped one for the weights it was taught from, no other."""

import copy
from pathlib import Path

import pytest
import torch

from pchmr.body import load_body
from pchmr.config import FittingOptions, ModelOptions
from pchmr.models import HMRModel, load_model, save_checkpoint
from pchmr.personalize import settled
from pchmr.personalize.rehearsal import source_people
from pchmr.personalize.settled import NUM_BESIDE, NUM_OTHERS, TAUGHT_FROM, settled_model
from pchmr.personalize.teaching import Teacher
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


def test_a_setting_is_taught_once_and_found_again(
    shared: HMRModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taught: list[HMRModel] = []

    def settle(self: Teacher, start: HMRModel) -> HMRModel:
        taught.append(copy.deepcopy(start))
        return taught[-1]

    monkeypatch.setattr(Teacher, "settle", settle)
    body = load_body()
    people = source_people(body, shared.image_size, 4)
    options = FittingOptions(setting="B")
    path = tmp_path / "settled.safetensors"
    for seed, lessons in ((0, 1), (0, 1), (1, 2)):
        teacher = Teacher(
            body=body, source=people, source_mm=1.0, others=people, options=options, seed=seed
        )
        settled_model(path, teacher, shared)
        assert len(taught) == lessons and path.is_file()
