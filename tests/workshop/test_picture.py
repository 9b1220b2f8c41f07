"""The README's picture: the best, the median and the worst of rendered people, nobody else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pchmr.config import SettingError
from pchmr.examples import RANKS, Picture
from pchmr.workshop.picture import make, sheet

ROOT = Path(__file__).resolve().parents[2]
SIDE = 4


def person(rank: str, value: int) -> Picture:
    tiles = [np.full((SIDE, SIDE, 3), value + view, np.uint8) for view in range(5)]
    return Picture(rank, 0, 1.0, tiles[:3], tiles[3:])


def test_one_of_each_rank_is_shown_without_the_truths_side() -> None:
    people = [person(rank, 10 * place) for place, rank in enumerate(np.repeat(RANKS, 2))]
    found = sheet(people)
    assert found.shape == (3 * SIDE, 4 * SIDE, 3)
    assert found[::SIDE, ::SIDE, 0].tolist() == [[0, 1, 3, 4], [20, 21, 23, 24], [40, 41, 43, 44]]


def test_a_run_without_examples_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="pchmr evaluate"):
        make(tmp_path, tmp_path / "picture.jpg")


def test_the_picture_of_the_readme_is_small() -> None:
    text = (ROOT / "README.md").read_text()
    path = ROOT / "docs/assets/people.jpg"
    assert "docs/assets/people.jpg" in text
    assert path.stat().st_size < 200_000
    assert Image.open(path).size[0] <= 1000
