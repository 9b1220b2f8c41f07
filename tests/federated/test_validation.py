"""The gate: what an honest client can send passes, the rest is set aside with a code."""

import numpy as np
import pytest

from pchmr.config import OptimOptions
from pchmr.federated.flower.egress import Rejected, Update
from pchmr.federated.fold import vector_norm
from pchmr.federated.validation import Gate, Seen

SIZE = 10_000
STATISTICS = np.float32([0, 0, 1, 1])
VARIANCES = np.array([False, False, True, True])


def gate_of(**changes) -> Gate:
    options = OptimOptions(learning_rate=1e-3, batch_size=8)
    gate = Gate.of(options, num_parameters=SIZE, max_samples=100, local_epochs=1)
    for name, value in changes.items():
        setattr(gate, name, value)
    return gate


def update_of(scale: float = 1e-3, num_samples: int = 16, num_steps: int = 2, **arrays) -> Update:
    delta = (scale * np.random.default_rng(0).normal(size=SIZE)).astype(np.float32)
    return Update({"delta": delta} | arrays, num_samples, num_steps, loss_sum=1.0)


def seen(norm: float, num_steps: int = 2) -> list[Seen]:
    return [Seen(norm, num_steps, 0.0)] * 9


def reason(gate: Gate, update: Update) -> str:
    with pytest.raises(Rejected) as caught:
        gate.admit(update, STATISTICS, VARIANCES)
    return caught.value.reason


def test_vector_norm_against_float64():
    values = np.random.default_rng(1).normal(size=100_001).astype(np.float32)
    assert vector_norm(values) == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-6)
    assert vector_norm(np.empty(0, np.float32)) == 0.0


def test_honest_updates_pass_and_are_remembered():
    gate = gate_of()
    norm = gate.admit(update_of(), STATISTICS, VARIANCES)
    assert norm == pytest.approx(0.1, rel=0.05)
    assert gate.settle(STATISTICS) == {}
    assert [tuple(good) for good in gate.memory] == [(norm, 2, 0.0)]
    assert gate.cohort == []


def test_a_large_client_may_move_farther_than_five_medians():
    gate = gate_of(memory=seen(0.02, num_steps=1))
    long = update_of(scale=1e-2, num_samples=100, num_steps=13)  # length 1.0, bound 1.3
    gate.admit(long, STATISTICS, VARIANCES)
    assert reason(gate, update_of(scale=1e-2, num_samples=8, num_steps=1)) == "norm"
    assert gate.settle(STATISTICS) == {}


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e25])
def test_too_long(scale):
    assert reason(gate_of(), update_of(scale)) == "norm"
    assert reason(gate_of(memory=seen(0.1)), update_of(scale)) == "norm"


def test_five_medians_are_the_bound_whatever_a_step_could_reach():
    gate_of(memory=seen(30.0)).admit(update_of(scale=1.0), STATISTICS, VARIANCES)  # 100 <= 150
    assert reason(gate_of(memory=seen(0.01)), update_of(scale=1e-3)) == "norm"  # 0.1 > 0.05
    gate_of(memory=seen(0.0)).admit(update_of(scale=1e-3), STATISTICS, VARIANCES)


@pytest.mark.parametrize("memory", [[], [Seen(0.2, 2, 0.0)] * 9])
def test_a_cohort_is_judged_by_its_own_median(memory):
    """Before there is any other, and where lengths fell since."""
    gate = gate_of(memory=memory)
    for scale in (3e-3, 3.1e-3, 1e-4, 1.1e-4, 1.2e-4):
        gate.admit(update_of(scale), STATISTICS, VARIANCES)
    assert gate.settle(STATISTICS) == {0: "norm", 1: "norm"}
    assert [good.norm < 0.02 for good in gate.memory[len(memory) :]] == [True] * 3
    if not memory:
        assert reason(gate, update_of(3e-3)) == "norm"


def test_a_round_is_not_held_up_for_long():
    """What one cohort set aside does not pass in the next, however long lengths were before."""
    gate = gate_of(memory=[Seen(0.2, 2, 0.0)] * 150)
    for scale in (3e-3, 1e-4, 1.1e-4, 1.2e-4):
        gate.admit(update_of(scale), STATISTICS, VARIANCES)
    assert gate.settle(STATISTICS) == {0: "norm"}
    assert reason(gate, update_of(3e-3)) == "norm"
    gate.admit(update_of(1.3e-4), STATISTICS, VARIANCES)
    assert gate.settle(STATISTICS) == {}
    gate.begin()  # the next round stands on all rounds again
    gate.admit(update_of(2e-3), STATISTICS, VARIANCES)


def test_a_cohort_is_judged_by_its_own_statistics():
    gate = gate_of()
    far = np.float32([90, 0, 1, 1])
    for buffers in (far, STATISTICS, STATISTICS + np.float32(0.1)):
        gate.admit(update_of(buffers=buffers), STATISTICS, VARIANCES)
    assert gate.settle(STATISTICS) == {0: "buffers"}
    assert reason(gate, update_of(buffers=far)) == "buffers"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    update = update_of()
    update.arrays["delta"][77] = value
    assert reason(gate_of(), update) == "non_finite"
    control = np.full(SIZE, value, np.float32)
    assert reason(gate_of(), update_of(control=control)) == "non_finite"


@pytest.mark.parametrize(
    ("num_samples", "num_steps"),
    [(101, 13), (0, 1), (-5, 1), (10**12, 1), (16, 3), (16, 1), (16, 0)],
)
def test_counts_out_of_range(num_samples, num_steps):
    assert reason(gate_of(), update_of(num_samples=num_samples, num_steps=num_steps)) == (
        "num_samples"
    )


def test_running_statistics():
    gate = gate_of()
    gate.admit(update_of(buffers=np.float32([0.2, 0.1, 0.9, 1.2])), STATISTICS, VARIANCES)
    assert reason(gate, update_of(buffers=np.float32([0, 0, -0.1, 1]))) == "buffers"
    assert reason(gate, update_of(buffers=np.float32([0, 0, 1e6, 1]))) == "buffers"
    assert reason(gate, update_of(buffers=np.float32([np.nan, 0, 1, 1]))) == "non_finite"
    assert len(gate.cohort) == 1  # what was set aside leaves no trace


def test_memory_is_bounded():
    gate = gate_of()
    for _ in range(300):
        gate.admit(update_of(), STATISTICS, VARIANCES)
    gate.settle(STATISTICS)
    assert len(gate.memory) == 200


def test_control_variates_are_as_short_as_clipping_makes_gradients():
    honest = np.zeros(SIZE, dtype=np.float32)
    honest[0] = 0.59  # between two means of gradients of at most 0.3
    gate_of().admit(update_of(control=honest), STATISTICS, VARIANCES)
    for factor in (2, 1e15, 1e30):
        assert reason(gate_of(), update_of(control=honest * np.float32(factor))) == "norm"
    honest[1] = np.nan
    assert reason(gate_of(), update_of(control=honest)) == "non_finite"
