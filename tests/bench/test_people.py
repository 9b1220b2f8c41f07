"""The page of figures about the rendered people, on a handful of them."""

from pathlib import Path

import pytest
from PIL import Image

from pchmr.bench import people
from pchmr.config import BenchConfig

pytestmark = pytest.mark.whole


def test_every_domain_has_figures_and_a_contact_sheet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(people, "NUM_CHECKED", 8)
    monkeypatch.setattr(people, "NUM_SHOWN", 8)
    monkeypatch.setattr(people, "DEFAULT_WORLD", 8)
    rows = people.tables(BenchConfig(name="people", output=tmp_path))
    figures = {row.label: row.measures["value"] for row in rows}
    assert len(figures) == len(rows)
    for domain in people.DOMAINS:
        assert figures[f"{domain}: joints from the record against the picture's"] < 0.1
        assert figures[f"{domain}: angle beyond its limit"] == 0
        sheet = Image.open(tmp_path / f"people_{domain}.jpg")
        assert sheet.size == (8 * 128, 2 * 128)  # pictures, then the same with their labels
