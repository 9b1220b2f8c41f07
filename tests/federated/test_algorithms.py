"""Every algorithm against its slow twin, against Flower's own strategy, and by hand."""

import numpy as np
import pytest
from flwr.serverapp import strategy as flower_strategies
from toy import config_of, folder, world_of
from twins import TWINS, Problem

from pchmr.config import OptimOptions, ServerOptions, SettingError
from pchmr.federated import ALGORITHMS, run_federated
from pchmr.federated.flower.api import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
    set_identity,
)
from pchmr.federated.fold import Fold
from pchmr.runs import state_sha256

FLOWER = {
    "fedavg": lambda: flower_strategies.FedAvg(),
    "fedavgm": lambda: flower_strategies.FedAvgM(server_momentum=0.9),
    "fedadam": lambda: flower_strategies.FedAdam(eta=0.01),
    "fedyogi": lambda: flower_strategies.FedYogi(eta=0.01),
    "fedadagrad": lambda: flower_strategies.FedAdagrad(eta=0.01),
}


# Those that leave clients networks of their own have theirs in `test_personal`.
COMMON = sorted(name for name in ALGORITHMS if not ALGORITHMS[name].is_personal)


def test_every_algorithm_has_a_twin_and_a_name_in_the_config():
    assert set(TWINS) == set(COMMON)
    for name in COMMON:
        assert config_of(algorithm=name).algorithm == name


def sgd_config(name: str, **changes):
    options = OptimOptions(learning_rate=0.2, batch_size=8, clip=100.0)
    return config_of(algorithm=name, num_rounds=4, optim_options=options, **changes)


@pytest.mark.parametrize("name", COMMON)
def test_agrees_with_its_slow_twin(name, tmp_path):
    config = sgd_config(name, server={"mu": 0.3} if name == "fedprox" else None)
    world = world_of(config, optimizer="sgd", norm=False)
    expected = TWINS[name](Problem(config, world))
    start = Problem(config, world).start
    result = run_federated(config, world, folder(tmp_path))
    assert not any(row["quarantined"] for row in result.rows)
    found = np.concatenate([t.numpy().reshape(-1) for t in result.state_dict.values()])
    assert np.abs(expected - start).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_twins_differ_from_each_other():
    ends = {}
    for name in COMMON:
        config = sgd_config(name)
        ends[name] = TWINS[name](Problem(config, world_of(config, optimizer="sgd", norm=False)))
    names = sorted(ends)
    gaps = [np.abs(ends[a] - ends[b]).max() for a in names for b in names if a < b]
    assert min(gaps) > 1e-5


def fold_of(name: str, deltas: list[np.ndarray], counts: list[int], steps: list[int]) -> Fold:
    fold = Fold(ALGORITHMS[name], len(deltas[0]), 0)
    fold.clear()
    for delta, count, step in zip(deltas, counts, steps, strict=True):
        fold.add({"delta": delta}, count, step)
    return fold


def test_trimmed_mean_agrees_with_flower_on_identical_replies():
    """Flower counts all replies alike, as trimming does here, whatever samples they name."""
    rng = np.random.default_rng(2)
    set_identity(1)
    start = rng.normal(size=300).astype(np.float32)
    deltas = [rng.normal(scale=0.05, size=300).astype(np.float32) for _ in range(10)]
    replies = [reply(start + delta, 5) for delta in deltas]
    aggregated, _ = flower_strategies.FedTrimmedAvg(beta=0.3).aggregate_train(1, replies)
    fold = Fold(ALGORITHMS["fedavg"], 300, 0, trim=3)
    fold.clear()
    for delta in deltas:
        fold.add({"delta": delta}, 5, 1)
    ours = start.copy()
    fold.apply(ours, np.empty(0, np.float32), {}, ALGORITHMS["fedavg"].step(1, ServerOptions()), 10)
    np.testing.assert_allclose(ours, aggregated["w"].numpy(), atol=1e-6)


def test_fedavg_by_hand():
    deltas = [np.float32([1, 0]), np.float32([0, 8])]
    x = np.float32([10, 10])
    fold = fold_of("fedavg", deltas, [3, 1], [1, 1])
    step = ALGORITHMS["fedavg"].step(1, ServerOptions())
    assert fold.apply(x, np.empty(0, np.float32), {}, step, 2)
    np.testing.assert_array_equal(x, np.float32([10.75, 12]))


def test_fednova_by_hand():
    # Per step the clients moved 1/2 and 4; shares 1/2 each; effective steps (2 + 1) / 2.
    x = np.float32([0])
    fold = fold_of("fednova", [np.float32([1]), np.float32([4])], [10, 10], [2, 1])
    fold.apply(x, np.empty(0, np.float32), {}, ALGORITHMS["fednova"].step(1, ServerOptions()), 2)
    np.testing.assert_allclose(x, 1.5 * (0.5 * 0.5 + 0.5 * 4), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(FLOWER))
def test_agrees_with_flower_on_identical_replies(name):
    rng = np.random.default_rng(1)
    size, counts = 400, [10, 30, 7]
    strategy, algorithm = FLOWER[name](), ALGORITHMS[name]
    set_identity(1)
    ours = rng.normal(size=size).astype(np.float32)
    theirs = ours.copy()
    state = algorithm.init(size)
    for round_number in (1, 2, 3):
        deltas = [rng.normal(scale=0.05, size=size).astype(np.float32) for _ in counts]
        record = ArrayRecord({"w": Array(theirs)})
        if hasattr(strategy, "current_arrays"):  # what configure_train notes
            numpy_arrays = {"w": theirs}
            strategy.current_arrays = record if name == "fedavgm" else numpy_arrays
        replies = [reply(theirs + delta, n) for delta, n in zip(deltas, counts, strict=True)]
        aggregated, _ = strategy.aggregate_train(round_number, replies)
        theirs = aggregated["w"].numpy().astype(np.float32)
        fold = fold_of(name, deltas, counts, [1] * 3)
        step = algorithm.step(round_number, ServerOptions())
        fold.apply(ours, np.empty(0, np.float32), state, step, 3)
        np.testing.assert_allclose(ours, theirs, atol=5e-5)


def reply(weights: np.ndarray, num_samples: int) -> Message:
    asked = Message(RecordDict({"config": ConfigRecord()}), 2, "train")
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(weights)}),
            "metrics": MetricRecord({"num-examples": num_samples}),
        }
    )
    return Message(content, reply_to=asked)


def end_of(config, path) -> str:
    result = run_federated(config, world_of(config), folder(path))
    return state_sha256(result.state_dict)


def test_fedprox_with_mu_0_is_fedavg(tmp_path):
    prox = config_of(algorithm="fedprox", server={"mu": 0.0})
    assert end_of(prox, tmp_path / "a") == end_of(config_of(), tmp_path / "b")


def test_momentum_0_is_fedavg(tmp_path):
    momentum = config_of(algorithm="fedavgm", server={"server_momentum": 0.0})
    assert end_of(momentum, tmp_path / "a") == end_of(config_of(), tmp_path / "b")


def test_server_learning_rate_scales_the_update():
    x = np.float32([1.0])
    step = ALGORITHMS["fedavg"].step(1, ServerOptions(server_learning_rate=0.5))
    fold_of("fedavg", [np.float32([2])], [4], [1]).apply(x, np.empty(0, np.float32), {}, step, 1)
    assert x[0] == 2.0


def test_a_setting_nobody_reads_is_refused():
    with pytest.raises(SettingError, match="--tau is read by"):
        config_of(algorithm="fedavg", server={"tau": 0.5})
