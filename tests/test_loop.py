"""The loop on two rendered clients: every stage of every kind of labels is scored."""

import json
from pathlib import Path
from typing import Any

import pytest

from pchmr import loop, worlds
from pchmr.annotate import deposer, starts
from pchmr.annotate.consent import read_consent
from pchmr.config import (
    DataConfig,
    DataOptions,
    FittingOptions,
    LabelingOptions,
    LoopConfig,
    SettingError,
)

pytestmark = pytest.mark.whole


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that are fitted in one step a stage."""
    whole = deposer.minimize

    def once(objective: Any, state: Any, weights: Any, iterations: int, *rest: Any, **more: Any):
        return whole(objective, state, weights, 1, *rest, **more)

    monkeypatch.setattr(deposer, "minimize", once)
    monkeypatch.setattr(starts, "START_STEPS", 1)


def test_every_stage_is_scored(hurried: None, tmp_path: Path) -> None:
    data = DataOptions(domain="V", num_samples=16, num_test_samples=16, image_size=64, world=1)
    worlds.run(DataConfig(task="synth", output=tmp_path / "root", data_options=data))
    fitting = FittingOptions(
        num_epochs=1, setting_epochs=1, num_others=6, num_rehearsed=8, min_labels=2, batch_size=4
    )
    config = LoopConfig(
        images=tmp_path / "root", output=tmp_path / "loop", num_rounds=1, num_clients=4,
        label_kinds="deposer,true", fitting_options=fitting,
        labeling_options=LabelingOptions(reject_mm=1e4),
    )  # fmt: skip
    table = loop.run(config)
    rows = table["rows"]
    assert [(row["labels"], row["stage"]) for row in rows] == [
        (kind, stage) for kind in ("deposer", "true") for stage in loop.stages(4)
    ]
    assert all(row["mpjpe_mm"] > 0 and len(row["clients"]) == 4 for row in rows)
    shared = [row["mpjpe_mm"] for row in rows if row["stage"] == "shared"]
    assert shared[0] == shared[1] != rows[2]["mpjpe_mm"]
    # One that is stopped after some rows goes on to the same table.
    path = tmp_path / "loop" / loop.TABLE
    path.write_text(json.dumps({**table, "rows": rows[:4]}))
    (tmp_path / "loop" / "true" / "federated" / "model.safetensors").unlink()
    assert loop.run(config) == table == json.loads(path.read_text())
    for labels in (tmp_path / "loop" / "deposer" / "labels").iterdir():
        consent = read_consent(labels)
        assert consent is not None and "federated" in consent.federated_models[0]


def test_a_folder_of_photos_is_no_root(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no root"):
        loop.run(LoopConfig(images=tmp_path, output=tmp_path / "out"))
