"""Statistics of crossed data: against scipy where one factor is alone, and exhaustive twins."""

from itertools import chain, combinations, product

import numpy as np
import pytest
from scipy import stats

from pchmr.report.crossed import (
    bootstrapped,
    difference,
    gap,
    holm,
    linear,
    relative_difference,
)

RNG = np.random.default_rng(3)
PERSONS, ERROR = 59, 180.0


def arm(seeds: int, persons: int = PERSONS, mean: float = ERROR, rng=RNG, people=None):
    people = rng.normal(scale=20, size=persons) if people is None else people
    noise = rng.normal(scale=4, size=(seeds, persons))
    return mean + people + rng.normal(scale=2, size=(seeds, 1)) + noise


def test_with_one_seed_it_is_the_paired_t_test_over_persons():
    ours, theirs = arm(1), arm(1)
    found, known = difference(ours, theirs), stats.ttest_rel(ours[0], theirs[0])
    low, high = known.confidence_interval()
    np.testing.assert_allclose(found.interval, (low, high))
    assert found.freedom == PERSONS - 1
    above = stats.ttest_rel(ours[0], theirs[0] + 1, alternative="greater").pvalue
    below = stats.ttest_rel(ours[0], theirs[0] + 1, alternative="less").pvalue
    assert found.p_above(1.0) == pytest.approx(above)
    assert found.p_below(1.0) == pytest.approx(below)
    assert found.num_seeds == 1


def test_with_one_person_it_is_welchs_t_test_over_seeds():
    ours, theirs = arm(5, persons=1), arm(3, persons=1) + 7
    found = difference(ours, theirs)
    known = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False)
    low, high = known.confidence_interval()
    np.testing.assert_allclose(found.interval, (low, high))
    assert found.freedom == pytest.approx(known.df) and found.num_seeds == 3


def test_paired_seeds_of_one_person_are_the_paired_t_test():
    ours, theirs = arm(4, persons=1), arm(4, persons=1)
    found = difference(ours, theirs, paired=True)
    low, high = stats.ttest_rel(ours[:, 0], theirs[:, 0]).confidence_interval()
    np.testing.assert_allclose(found.interval, (low, high))


def test_equivalence_is_two_one_sided_tests():
    people = RNG.normal(scale=20, size=PERSONS)
    ours, theirs = arm(1, people=people), arm(1, people=people)
    found = difference(ours, theirs)
    sides = [
        stats.ttest_rel(ours[0], theirs[0] - 3, alternative="greater").pvalue,
        stats.ttest_rel(ours[0], theirs[0] + 3, alternative="less").pvalue,
    ]
    assert found.p_within(-3.0, 3.0) == pytest.approx(max(sides))
    # At 5 % it says so exactly where the 90 % interval lies within the margin.
    half = stats.t.ppf(0.95, found.freedom) * found.error
    margin = abs(found.value) + half
    assert found.p_within(-margin, margin) == pytest.approx(0.05, rel=0.05)
    assert found.p_outside(-3.0, 3.0) == 1.0 or found.p_outside(-3.0, 3.0) > 0.1


def test_slopes_of_ratios_are_their_derivatives():
    before, ours, central = arm(1, mean=207.0), arm(3, mean=188.0), arm(4)
    for statistic, tables in (
        (lambda o, c: 100 * (o / c - 1), (ours, central)),
        (lambda b, o, c: 100 * (b - o) / (b - c), (before, ours, central)),
    ):
        means = [float(table.mean()) for table in tables]
        slopes = []
        for place in range(len(means)):
            up, down = list(means), list(means)
            up[place] += 1e-4
            down[place] -= 1e-4
            slopes.append((statistic(*up) - statistic(*down)) / 2e-4)
        untrained = (0,) if len(tables) == 3 else ()
        expected = linear(statistic(*means), tables, slopes, untrained=untrained)
        found = gap(*tables) if untrained else relative_difference(*tables)
        assert found.value == pytest.approx(expected.value)
        assert found.error == pytest.approx(expected.error, rel=1e-6)
        assert found.num_seeds == 3


def test_the_bootstrap_agrees_with_every_resample_that_there_is():
    """Two seeds, three persons: all 4 x 27 draws, each as likely as any other."""
    table = arm(2, persons=3)
    stretched = []
    for seeds in product(range(2), repeat=2):
        for persons in product(range(3), repeat=3):
            s = np.bincount(seeds, minlength=2) / 2
            p = np.bincount(persons, minlength=3) / 3
            s = 0.5 + (s - 0.5) * np.sqrt(2)
            p = 1 / 3 + (p - 1 / 3) * np.sqrt(1.5)
            stretched.append(s @ table @ p)
    drawn = bootstrapped([table], lambda mean: mean, num=200_000)
    np.testing.assert_allclose(drawn.mean(), np.mean(stretched), rtol=1e-4)
    np.testing.assert_allclose(drawn.std(), np.std(stretched), rtol=1e-2)
    for level in (0.1, 0.5, 0.9):
        assert abs(np.quantile(drawn, level) - np.quantile(stretched, level)) < 0.2 * np.std(drawn)


def test_the_error_of_a_gap_agrees_with_the_bootstrap():
    rng = np.random.default_rng(8)
    people = rng.normal(scale=20, size=PERSONS)
    before = arm(1, mean=207.0, rng=rng, people=people)
    ours, central = (arm(3, mean=m, rng=rng, people=people) for m in (188.0, 178.0))
    found = gap(before, ours, central)
    drawn = bootstrapped(
        (before, ours, central), lambda b, o, c: 100 * (b - o) / (b - c), num=20_000
    )
    assert found.value == pytest.approx(np.median(drawn), abs=1.0)
    assert found.error == pytest.approx(np.std(drawn), rel=0.15)


def test_intervals_cover_the_truth_with_three_seeds():
    """Persons and seeds drawn anew 400 times: 95 % of the intervals hold the true difference."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        people = rng.normal(scale=20, size=20)
        ours = arm(3, 20, ERROR + 5, rng, people + rng.normal(scale=5, size=20))
        low, high = difference(ours, arm(3, 20, ERROR, rng, people)).interval
        held += low <= 5 <= high
    assert 0.92 <= held / 400 <= 0.995


@pytest.mark.parametrize("count", [1, 2, 5])
def test_holm_is_closed_testing_with_bonferroni(count):
    """A claim stands where every family of claims that holds it is rejected by Bonferroni."""
    for _ in range(20):
        p_values = RNG.uniform(0, 0.2, size=count).tolist()
        families = list(
            chain.from_iterable(combinations(range(count), n) for n in range(1, count + 1))
        )
        for place, found in enumerate(holm(p_values)):
            worst = max(
                min(1.0, len(f) * min(p_values[i] for i in f)) for f in families if place in f
            )
            assert found == pytest.approx(worst)


def test_without_spread_an_estimate_is_certain():
    found = difference(np.full((2, 3), 4.0), np.full((2, 3), 1.0))
    assert found.interval == (3.0, 3.0)
    assert found.p_above(2.0) == 0 and found.p_below(2.0) == 1
