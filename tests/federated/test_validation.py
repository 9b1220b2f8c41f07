"""The gate: what an honest client can send passes, the rest is shortened or set aside."""

import numpy as np
import pytest

from pchmr.config import OptimOptions
from pchmr.federated.cohort import Reply
from pchmr.federated.fold import vector_norm
from pchmr.federated.moments import FIRST, LARGEST_RATIO, SECOND, MomentSpec
from pchmr.federated.update import Rejected, Update
from pchmr.federated.validation import Gate, UpdateTrace
from pchmr.federated.vector import Slot

SIZE = 10_000
STATISTICS = np.float32([0, 0, 1, 1])
VARIANCES = np.array([False, False, True, True])


def gate_of(**changes) -> Gate:
    options = OptimOptions(learning_rate=1e-3, batch_size=8)
    gate = Gate.of(options, num_parameters=SIZE, max_samples=100, local_epochs=1)
    for name, value in changes.items():
        setattr(gate, name, value)
    return gate


def noise(seed: int, scale: float = 1e-3) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=SIZE)).astype(np.float32)


def update_of(
    delta: np.ndarray, num_samples: int = 16, num_steps: int = 2, loss: float | None = 1.0, **arrays
) -> Update:
    return Update({"delta": delta} | arrays, num_samples, num_steps, loss)


def judged(gate: Gate, updates: list[Update]) -> list[Reply]:
    """The replies of a cohort that came one after the other."""
    replies = [
        gate.admit(client_id, update, STATISTICS, VARIANCES)
        for client_id, update in enumerate(updates)
    ]
    gate.judge(replies)
    return replies


def reason(gate: Gate, update: Update) -> str:
    with pytest.raises(Rejected) as caught:
        gate.admit(0, update, STATISTICS, VARIANCES)
    return caught.value.reason


def test_vector_norm_against_float64():
    values = np.random.default_rng(1).normal(size=100_001).astype(np.float32)
    assert vector_norm(values) == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-6)
    assert vector_norm(np.empty(0, np.float32)) == 0.0


def test_honest_updates_pass_as_they_came_and_are_remembered():
    gate = gate_of()
    deltas = [noise(seed, scale) for seed, scale in enumerate((1e-3, 1.5e-3, 0.7e-3, 1e-3))]
    replies = judged(gate, [update_of(delta) for delta in deltas])
    for reply, delta in zip(replies, deltas, strict=True):
        assert (reply.reason, reply.scale) == (None, {})
        np.testing.assert_array_equal(reply.update.arrays["delta"], delta)
    assert [trace.norm for trace in gate.memory] == [reply.lengths["delta"] for reply in replies]


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e25])
def test_what_no_training_reaches_is_set_aside_in_the_first_round(scale):
    assert reason(gate_of(), update_of(noise(0, scale))) == "norm"


@pytest.mark.parametrize("factor", [-1000, -100, 100, 1e6])
def test_far_beyond_the_others_is_set_aside(factor):
    gate = gate_of(step_length=1e30)
    replies = judged(
        gate, [update_of(noise(seed) * np.float32(factor if seed == 0 else 1)) for seed in range(6)]
    )
    assert [reply.reason for reply in replies] == ["norm"] + [None] * 5
    assert len(gate.memory) == 5


@pytest.mark.parametrize(("num_bad", "num_clients"), [(1, 4), (1, 10), (3, 10)])
@pytest.mark.parametrize("factor", [3, 4.5, 10, 27])
def test_a_reply_is_shortened_to_twice_what_the_others_do(num_bad, num_clients, factor):
    """Whatever it claims to have taken: steps and samples do not widen the bound."""
    updates = [update_of(noise(seed)) for seed in range(num_clients)]
    for bad in range(num_bad):
        long = noise(bad) * np.float32(factor)
        updates[bad] = update_of(long, num_samples=100, num_steps=13)
    replies = judged(gate_of(step_length=1e9), updates)
    honest = np.median([reply.lengths["delta"] for reply in replies[num_bad:]])
    for reply in replies[:num_bad]:
        assert reply.lengths["delta"] * reply.scale["delta"] == pytest.approx(2 * honest, rel=0.05)
        assert reply.counted_samples == 48  # three times the others' median
        assert reply.counted_steps == 6
    assert all(not reply.scale for reply in replies[num_bad:])


def test_where_counts_are_known_none_is_believed():
    gate = gate_of(num_samples=[16, 96])
    gate.admit(0, update_of(noise(0)), STATISTICS, VARIANCES)
    with pytest.raises(Rejected, match="num_samples"):
        gate.admit(1, update_of(noise(0)), STATISTICS, VARIANCES)


def test_a_small_cohort_is_held_against_earlier_rounds():
    gate = gate_of(memory=[UpdateTrace(0.1, str(i)) for i in range(9)], step_length=1e9)
    (reply,) = judged(gate, [update_of(noise(0, 1e-2))])
    assert reply.lengths["delta"] * reply.scale["delta"] == pytest.approx(0.2)


def test_clients_that_send_nothing_do_not_silence_the_others():
    updates = [update_of(np.zeros(SIZE, np.float32)) for _ in range(6)]
    updates += [update_of(noise(seed)) for seed in range(3)]
    replies = judged(gate_of(), updates)
    assert all(not reply.scale and reply.reason is None for reply in replies)


def agreed(seed: int) -> np.ndarray:
    """An honest update of a cohort that agrees a little: cosines of 0.1."""
    return (noise(99) / 3 + noise(seed)).astype(np.float32)


@pytest.mark.parametrize("num_bad", [1, 3])
def test_what_points_against_a_cohort_that_agrees_is_set_aside(num_bad):
    deltas = [agreed(seed) * np.float32(-1 if seed < num_bad else 1) for seed in range(10)]
    replies = judged(gate_of(), [update_of(delta) for delta in deltas])
    assert [r.reason for r in replies] == ["direction"] * num_bad + [None] * (10 - num_bad)


def test_where_nobody_agrees_nobody_is_against():
    """At the end of training heterogeneous clients pull in all directions, and sum to nothing."""
    deltas = np.stack([noise(seed) for seed in range(10)])
    deltas -= deltas.mean(axis=0)
    replies = judged(gate_of(), [update_of(delta) for delta in deltas])
    assert all(reply.reason is None for reply in replies)


def test_honest_clients_that_scatter_around_little_agreement_are_kept():
    """As in late rounds of real clients: one of them opposes the others by chance."""
    shared = noise(99)
    pulls = [-0.3, 0.6, 0.0, 0.1, 0.5, -0.1, 0.7, 0.3, 0.4, 0.2]
    deltas = [(pull * shared + noise(seed)).astype(np.float32) for seed, pull in enumerate(pulls)]
    replies = judged(gate_of(), [update_of(delta) for delta in deltas])
    assert all(reply.reason is None for reply in replies)


@pytest.mark.parametrize("rest", [noise, agreed])
def test_copies_of_one_another_are_set_aside(rest):
    deltas = [rest(seed) for seed in range(10)]
    for bad in range(3):
        deltas[bad] = np.full(SIZE, 1e-3, np.float32) + noise(bad, 1e-4)
    replies = judged(gate_of(), [update_of(delta) for delta in deltas])
    assert [reply.reason for reply in replies] == ["alike"] * 3 + [None] * 7


def test_clients_that_all_learn_the_same_are_no_copies():
    replies = judged(gate_of(), [update_of(noise(99) + noise(s, 1e-4)) for s in range(10)])
    assert all(reply.reason is None for reply in replies)


def test_an_old_update_under_a_new_round_is_a_replay():
    gate = gate_of()
    judged(gate, [update_of(noise(seed)) for seed in range(4)])
    assert reason(gate, update_of(noise(2))) == "replay"
    gate.admit(0, update_of(np.zeros(SIZE, np.float32)), STATISTICS, VARIANCES)


def test_a_loss_far_beyond_what_others_say_is_set_aside():
    losses = [1.0, None, 2.0, 1e4, 0.5, 1.0]
    updates = [update_of(noise(seed), loss=loss) for seed, loss in enumerate(losses)]
    replies = judged(gate_of(), updates)
    assert [reply.reason for reply in replies] == [None, None, None, "loss", None, None]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    delta = noise(0)
    delta[77] = value
    assert reason(gate_of(), update_of(delta)) == "non_finite"
    control = np.full(SIZE, value, np.float32)
    assert reason(gate_of(), update_of(noise(0), control=control)) == "non_finite"


@pytest.mark.parametrize(
    ("num_samples", "num_steps"),
    [(101, 13), (0, 1), (-5, 1), (10**12, 1), (16, 3), (16, 1), (16, 0)],
)
def test_counts_out_of_range(num_samples, num_steps):
    update = update_of(noise(0), num_samples=num_samples, num_steps=num_steps)
    assert reason(gate_of(), update) == "num_samples"


def test_running_statistics_drift_no_farther_than_twice_the_others():
    drifts = [0.9, 0.1, 0.1, 0.1, 0.1]
    updates = [
        update_of(noise(seed), buffers=STATISTICS + np.float32([drift, 0, 0, 0]))
        for seed, drift in enumerate(drifts)
    ]
    replies = judged(gate_of(), updates)
    assert replies[0].scale["buffers"] == pytest.approx(0.2 / 0.9, rel=1e-3)
    assert not any(reply.scale for reply in replies[1:])


@pytest.mark.parametrize(
    ("buffers", "code"),
    [([0, 0, -0.1, 1], "buffers"), ([0, 0, 1e6, 1], "buffers"), ([np.nan, 0, 1, 1], "non_finite")],
)
def test_running_statistics_that_cannot_be(buffers, code):
    assert reason(gate_of(), update_of(noise(0), buffers=np.float32(buffers))) == code


def test_memory_is_bounded():
    gate = gate_of(memory=[UpdateTrace(0.1, str(i)) for i in range(300)])
    judged(gate, [update_of(noise(seed)) for seed in range(4)])
    assert len(gate.memory) == 200


def test_control_variates_are_as_short_as_clipping_makes_gradients():
    honest = np.zeros(SIZE, dtype=np.float32)
    honest[0] = 0.59  # between two means of gradients of at most 0.3
    gate_of().admit(0, update_of(noise(0), control=honest), STATISTICS, VARIANCES)
    for factor in (2, 1e15, 1e30):
        control = honest * np.float32(factor)
        assert reason(gate_of(), update_of(noise(0), control=control)) == "norm"


def test_control_variates_move_no_farther_than_twice_the_others():
    updates = [
        update_of(noise(seed), control=noise(seed + 50, 5e-3 if seed == 0 else 1e-3))
        for seed in range(6)
    ]
    replies = judged(gate_of(gradient_length=1e9), updates)
    assert replies[0].scale["control"] == pytest.approx(0.4, rel=0.05)


def test_shortened_moments_stay_reachable():
    """A second moment that is shortened takes its first one along, by the root."""
    slots = (Slot("weights", (SIZE,), 0, SIZE),)
    spec, updates = MomentSpec(slots, slots, "adamw"), []
    for seed in range(6):
        first = noise(seed + 50, 1.9e-3 if seed == 0 else 1e-3)
        second = np.square(first) / np.float32(LARGEST_RATIO)
        updates.append(update_of(noise(seed), **{FIRST: first, SECOND: second}))
    replies = judged(gate_of(moments=spec), updates)
    scale = replies[0].scale
    assert 0.5 < scale[SECOND] < 0.6 and scale[FIRST] <= np.sqrt(scale[SECOND])
    arrays = {name: np.float32(scale[name]) * updates[0].arrays[name] for name in (FIRST, SECOND)}
    assert spec.is_reachable(arrays)
    assert not any(reply.scale for reply in replies[1:])
