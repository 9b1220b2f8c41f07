"""A round is a function of (seed, round): cohorts and seeds repeat, and cover everybody."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pchmr.federated.rounds import client_seed, cohort
from pchmr.seeds import derive_seed


@given(
    seed=st.integers(0, 2**31), number=st.integers(1, 10**6), clients=st.integers(1, 300),
    data=st.data(),
)  # fmt: skip
def test_cohort_is_drawn_without_replacement_and_repeats(seed, number, clients, data):
    size = data.draw(st.integers(1, clients))
    drawn = cohort(seed, number, clients, size)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == size
    assert 0 <= min(drawn) <= max(drawn) < clients
    assert drawn == cohort(seed, number, clients, size)


def test_known_cohort():
    """Changes here change every published run."""
    assert cohort(0, 1, 1000, 10) == [51, 91, 136, 358, 435, 537, 542, 644, 702, 842]


def test_rounds_seeds_and_attempts_differ_and_cover_all_clients():
    drawn = [tuple(cohort(0, r, 100, 10)) for r in range(1, 200)]
    assert len(set(drawn)) == len(drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=100)
    assert counts.min() > 5
    assert abs(counts.mean() - 19.9) < 1e-9
    assert cohort(0, 1, 100, 10) != cohort(1, 1, 100, 10)
    assert cohort(0, 1, 100, 10) != cohort(0, 1, 100, 10, attempt=1)


def test_client_seeds_are_those_of_centralized_epochs():
    assert client_seed(4, 7, 0) == derive_seed(4, "client", 7, 0)
    assert client_seed(4, 7, 0) != client_seed(4, 7, 1)
