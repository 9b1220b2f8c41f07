"""Robust rules: against independent implementations, and what a minority can do."""

import numpy as np
import pytest
from scipy.optimize import minimize
from toy import config_of, folder, world_of

from pchmr.config import SettingError
from pchmr.federated import run_federated
from pchmr.federated.aggregation import Aggregation
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.cohort import Cohort, Reply, products
from pchmr.federated.fold import Fold
from pchmr.federated.robust import geometric_median, multi_krum
from pchmr.federated.update import Update
from pchmr.runs import state_sha256


def vectors_of(seed: int, count: int = 9, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_geometric_median_against_scipy(seed):
    vectors = vectors_of(seed).astype(np.float64)
    weights = np.random.default_rng(seed + 50).uniform(1, 5, size=len(vectors))

    def cost(point: np.ndarray) -> float:
        return float(weights @ np.linalg.norm(vectors - point, axis=1))

    best = minimize(cost, vectors.mean(axis=0), tol=1e-12)
    found = geometric_median(vectors @ vectors.T, weights) @ vectors
    np.testing.assert_allclose(found, best.x, atol=1e-4)


@pytest.mark.parametrize("num_bad", [1, 3])
def test_multi_krum_against_a_twin_from_the_paper(num_bad):
    for seed in range(5):
        vectors = vectors_of(seed)
        scores = []
        for k, one in enumerate(vectors):
            far = sorted(float(((one - v) ** 2).sum()) for j, v in enumerate(vectors) if j != k)
            scores.append(sum(far[: len(vectors) - num_bad - 2]))
        expected = sorted(np.argsort(scores)[: len(vectors) - num_bad].tolist())
        assert multi_krum(products(vectors), num_bad) == expected


@pytest.mark.slow
def test_multi_krum_against_flower():
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    for seed in range(5):
        vectors = vectors_of(seed)
        results = [([v], 10) for v in vectors]
        (expected,) = aggregate.aggregate_krum(results, 2, len(vectors) - 2)
        found = vectors[multi_krum(products(vectors), 2)].mean(axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1e3, -1e6])
def test_a_minority_moves_the_geometric_median_by_little(factor):
    vectors = vectors_of(0, count=10)
    honest = geometric_median(products(vectors[3:]), np.ones(7)) @ vectors[3:]
    vectors[:3] *= np.float32(factor)
    found = geometric_median(products(vectors), np.ones(10)) @ vectors
    assert np.linalg.norm(found - honest) < 2.5


def folded(vectors: np.ndarray, counts: list[int], rule: str) -> np.ndarray:
    size = vectors.shape[1]
    fold = Fold(ALGORITHMS["fedavg"], size, 0, None)
    aggregation = Aggregation(fold, Cohort({"delta": size}), rule=rule, num_bad=1)
    aggregation.begin()
    for place, (vector, count) in enumerate(zip(vectors, counts, strict=True)):
        update = Update({"delta": vector}, count, 1, 0.0)
        aggregation.add(Reply.of(place, update, {"delta": 1.0}, ""))
    aggregation.finish(np.empty(0, np.float32))
    moved = np.zeros(size, np.float32)
    step = ALGORITHMS["fedavg"].step(1, config_of().server_options)
    fold.apply(moved, np.empty(0, np.float32), {}, step, len(vectors))
    return moved


def test_rules_are_folded_as_the_weights_say():
    vectors, counts = vectors_of(2), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    table = products(vectors)
    shares = geometric_median(table, np.array(counts, dtype=np.float64))
    np.testing.assert_allclose(
        folded(vectors, counts, "geometric-median"), shares @ vectors, atol=1e-6
    )
    chosen = multi_krum(table, 1)
    mean = np.average(vectors[chosen], axis=0, weights=np.array(counts)[chosen])
    np.testing.assert_allclose(folded(vectors, counts, "multi-krum"), mean, atol=1e-6)


@pytest.mark.parametrize("rule", ["trimmed", "geometric-median", "multi-krum"])
def test_rules_run_and_resume_to_the_same_weights(rule, tmp_path):
    config = config_of({"aggregation_rule": rule}, clients_per_round=6)
    ends = {
        state_sha256(run_federated(config, world_of(config), folder(tmp_path / name)).state_dict)
        for name in "ab"
    }
    plain = config_of(clients_per_round=6)
    mean = run_federated(plain, world_of(plain), folder(tmp_path / "mean"))
    assert len(ends) == 1
    assert state_sha256(mean.state_dict) not in ends


def test_rules_that_contradict_are_refused():
    for rule in ("mean", "geometric-median"):
        with pytest.raises(SettingError, match=f"not by {rule}"):
            config_of({"aggregation_rule": rule, "trimmed_replies": 1})
    with pytest.raises(SettingError, match="not by scaffold"):
        config_of({"aggregation_rule": "geometric-median"}, algorithm="scaffold")
    with pytest.raises(SettingError, match="must be more"):
        config_of({"aggregation_rule": "multi-krum"})  # one bad of three cannot be told
