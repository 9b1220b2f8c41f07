"""The bench of personalization on one tiny user: every row is there, and a second run agrees."""

from dataclasses import replace
from pathlib import Path

import pytest

from pchmr.bench import personalize
from pchmr.config import DataOptions, FittingOptions

pytestmark = pytest.mark.slow


def test_rows_of_a_seed(tmp_path: Path) -> None:
    data = DataOptions(domain="V", num_samples=24, num_test_samples=16, image_size=64, world=1)
    fitting = FittingOptions(
        num_epochs=1, setting_epochs=1, num_others=6, num_rehearsed=8, min_labels=2, batch_size=4
    )
    study = personalize.Study(
        seed=0, place=tmp_path / "study", num_users=1, data=data, fitting=fitting
    )
    rows = {row.label: row for row in personalize.rows(study)}
    for label in (
        "shared model",
        "setting alone, no picture of the user",
        "constant of the training pictures' truth",
        "personal, DePoser labels",
        "personal, true labels",
        "personal, SMPLify-X labels",
        "DePoser alone on the training frames",
        "labels: the same and the setting's network, averaged",
        "DePoser alone on the test frames, begun from the setting",
        "DePoser alone on the test frames, begun from the personal",
    ):
        assert rows[label].scores["mpjpe_mm"] > 0, label
    for kind in ("DePoser", "SMPLify-X"):
        assert 0 <= rows[f"{kind} labels that count"].scores["value"] <= 100
    ratio = rows["after over before"]
    before, after = (
        rows[label].scores["mpjpe_mm"] for label in ("shared model", "personal, DePoser labels")
    )
    assert ratio.target is not None and ratio.scores["value"] == pytest.approx(
        after / before, abs=1e-3
    )
    again = [row for row in personalize.rows(replace(study)) if row.label in rows]
    assert [row.scores for row in again] == [
        row.scores for row in rows.values() if row.unit != "CPU-s"
    ]
    assert any(row.unit == "CPU-s" for row in rows.values())
