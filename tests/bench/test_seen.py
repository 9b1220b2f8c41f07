"""What the tables of seen people and of clips count, on numbers made by hand."""

import numpy as np
import pytest

from pchmr.bench.seen import half_scores, halves, limb_errors, thirds
from pchmr.body.joints import EVALUATION_14
from pchmr.perception.people import LIMBS


def test_limbs_count_in_sizes_of_their_person() -> None:
    truth = np.ones((2, 14, 3))
    truth[:, :, 0], truth[:, :, 1] = 50.0, np.linspace(0, 200, 14)
    truth[1, :, 2] = np.arange(14) < 13
    pixels = truth[..., :2] + [0.0, 20.0]
    apart = limb_errors(pixels, truth)
    assert len(apart) == 2 * len(LIMBS) - (13 in EVALUATION_14.indices(LIMBS))
    assert apart[0] == pytest.approx(0.1)


def test_the_best_half_is_told_by_prediction_alone() -> None:
    told = half_scores(np.array([1.0, 4, 2, 3]), np.array([50.0, 150, 70, 130]))
    assert (told["all (mm)"], told["best half (mm)"]) == (100, 60)
    assert told["lower by (%)"] == pytest.approx(40)


def test_groups_are_halves_and_thirds() -> None:
    values = np.arange(6.0)
    assert halves(values, "a", "b").tolist() == list("aaabbb")
    assert thirds(values, ("x", "y", "z")).tolist() == list("xxyyzz")
