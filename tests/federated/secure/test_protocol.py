"""A round's sum is the integer sum of its survivors, or there is no sum."""

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pchmr.federated.secure import Group, RoundAborted, SecureClient, SecurePolicy
from pchmr.federated.secure.encoding import capacity
from pchmr.federated.secure.messages import members_of
from pchmr.federated.secure.policy import threshold_of
from pchmr.federated.secure.rehearsal import (
    STAGES,
    Rehearsal,
    make_clients,
    make_offer,
    settings_of,
)

ANYONE = SecurePolicy(least_cohort=2, least_threshold=2, most_bound=2.0**31)  # as wide as a ring
CLIENTS: dict[int, list[SecureClient]] = {}
ROUNDS = iter(range(1, 10**6))


def clients_of(num_clients: int) -> list[SecureClient]:
    """The same clients again: they are asked for a new round each time."""
    if num_clients not in CLIENTS:
        CLIENTS[num_clients] = make_clients(num_clients, ANYONE)
    return CLIENTS[num_clients]


def check(integers: np.ndarray, bits: int, drops: Mapping[str, Collection[int]]) -> bool:
    """Plays a round of integers; returns whether there was a sum, which must be exact."""
    num_clients, size = integers.shape
    # A range of as many units as there are steps: an integer is its own code.
    group = Group("delta", size, float(capacity(bits, num_clients)), False, 1)
    clients = clients_of(num_clients)
    offer = make_offer(clients, settings_of(group, bits=bits), next(ROUNDS))
    values = [[row.astype(np.float32)] for row in integers]
    gone = {client for stage in STAGES[:3] for client in drops.get(stage, ())}
    round_ = Rehearsal(offer, clients, values, drops=drops)
    try:
        total = round_.run()
    except RoundAborted:
        return False
    assert set(total.survivors) == set(range(num_clients)) - gone
    wanted = integers[list(total.survivors)].sum(0)
    assert np.array_equal(total.values[0].astype(np.int64), wanted)
    return True


@st.composite
def rounds(draw: st.DrawFn, most: int) -> tuple[np.ndarray, int, dict[str, set[int]]]:
    num_clients = draw(st.integers(2, most))
    bits = draw(st.integers(16, 32))
    room = min(capacity(bits, num_clients), 2**18)
    value = st.integers(-room, room) | st.sampled_from([-room, 0, room])
    row = st.lists(value, min_size=1, max_size=12)
    size = len(draw(row))
    rows = st.lists(value, min_size=size, max_size=size)
    integers = np.array([draw(rows) for _ in range(num_clients)], dtype=np.int64)
    stages = st.sampled_from([*STAGES, None, None, None, None])
    drops: dict[str, set[int]] = {}
    for client in range(num_clients):
        if (stage := draw(stages)) is not None:
            drops.setdefault(stage, set()).add(client)
    return integers, bits, drops


def play(case: tuple[np.ndarray, int, dict[str, set[int]]]) -> None:
    integers, bits, drops = case
    left = len(integers) - sum(map(len, drops.values()))
    assert check(integers, bits, drops) == (left >= threshold_of(len(integers)))


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=200, **QUIET)
@given(rounds(5))
def test_sum_is_exact_or_the_round_ends(case: tuple) -> None:
    play(case)


@pytest.mark.slow
@settings(max_examples=10_000, **QUIET)
@given(rounds(12))
def test_sum_is_exact_or_the_round_ends_at_length(case: tuple) -> None:
    play(case)


@pytest.mark.parametrize("count", [20, pytest.param(50, marks=pytest.mark.slow)])
def test_many_clients_sum(count: int) -> None:
    integers = np.arange(count)[:, None] * np.array([1, -2, 3])
    tenth = count // 10
    assert check(integers, 20, {"masked": range(tenth), "unmask": range(tenth, 2 * tenth)})


def subsets(num_clients: int) -> list[tuple[int, ...]]:
    spare = num_clients - threshold_of(num_clients)
    return [c for size in range(1, spare + 1) for c in combinations(range(num_clients), size)]


@pytest.mark.parametrize("stage", STAGES)
def test_every_subset_of_drop_outs_recovers(stage: str) -> None:
    integers = np.random.default_rng(0).integers(-50, 50, (5, 3))
    for gone in subsets(5):
        assert check(integers, 20, {stage: gone})


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_subset_of_ten_recovers(stage: str) -> None:
    integers = np.random.default_rng(0).integers(-50, 50, (10, 3))
    assert len(subsets(10)) == 175
    for gone in subsets(10):
        assert check(integers, 20, {stage: gone})


@pytest.mark.parametrize("stage", STAGES)
def test_one_more_drop_out_ends_the_round(stage: str) -> None:
    integers = np.ones((5, 3), dtype=np.int64)
    assert not check(integers, 20, {stage: (0, 2)})


@pytest.mark.parametrize(("size", "liars"), [(5, {2}), (20, {0, 7})])
def test_clients_that_give_false_shares_spoil_no_sum(size: int, liars: set[int]) -> None:
    """At n = 20 the first client is in 27,132 of 38,760 subsets, and in the first of all orders."""
    clients = make_clients(size)
    group = Group("delta", 2, 1.0, False, 1)
    offer = make_offer(clients, settings_of(group), next(ROUNDS))
    values = [[np.full(2, 0.5, dtype=np.float32)] for _ in clients]
    round_ = Rehearsal(offer, clients, values)
    honest = round_._unmask

    def false(client: int, request):
        answer = honest(client, request)
        if client not in liars:
            return answer
        shares = tuple(type(s)(s.owner, bytes(66)) for s in answer.shares)
        return type(answer)(answer.context, answer.sender, shares)

    round_._unmask = false
    assert np.allclose(round_.run().values[0], size / 2, atol=1e-2)


def test_lengths_depend_on_nothing_but_public_sizes() -> None:
    lengths = []
    for scale in (0.0, 1.0):
        clients = clients_of(5)
        offer = make_offer(clients, settings_of(Group("d", 100, 1.0, False, 1)), next(ROUNDS))
        values = [[np.full(100, scale * i / 5, dtype=np.float32)] for i in range(5)]
        round_ = Rehearsal(offer, clients, values)
        round_.run()
        lengths.append([len(message.encode()) for message in round_.sent])
    assert lengths[0] == lengths[1]


def test_no_secret_stays_after_it_was_needed() -> None:
    clients = clients_of(5)
    offer = make_offer(clients, settings_of(Group("d", 4, 1.0, False, 1)), next(ROUNDS))
    values = [[np.zeros(4, dtype=np.float32)] for _ in clients]
    round_ = Rehearsal(offer, clients, values)
    round_.run()
    for state in round_.states.values():
        assert not any(state.seal_key + state.mask_key + state.seed)
        assert members_of(state.participants) == (0, 1, 2, 3, 4)
