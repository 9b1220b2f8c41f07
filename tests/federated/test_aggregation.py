"""Cohorts put together: honest ones to the bit, judged ones without what the gate took away."""

import numpy as np
import pytest
from toy import config_of

from pchmr.federated.aggregation import Aggregation
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.cohort import ENTRIES, Cohort, Reply, cosines, products, sketch
from pchmr.federated.fold import Fold
from pchmr.federated.spool import Spool
from pchmr.federated.update import Update
from pchmr.federated.validation import Gate

SIZE, COUNTS = 140_001, (16, 8, 32, 16, 64, 8)  # ratios that are exact, whatever adds them up
STATISTICS = np.float32([0, 1, 1])


def replies_of(seed: int) -> list[Reply]:
    rng = np.random.default_rng(seed)
    made = []
    for client_id, count in enumerate(COUNTS):
        arrays = {
            "delta": rng.normal(size=SIZE).astype(np.float32),
            "buffers": STATISTICS + rng.uniform(0, 0.1, size=3).astype(np.float32),
        }
        lengths = {"delta": float(np.linalg.norm(arrays["delta"])), "buffers": 0.1}
        made.append(Reply.of(client_id, Update(arrays, count, 1, 1.0), lengths, str(client_id)))
    return made


class Room:
    """A cohort and what folds it."""

    def __init__(self, rule: str, num_bad: int = 0, trim: int | None = None) -> None:
        self.fold = Fold(ALGORITHMS["fedavg"], SIZE, 3, trim)
        self.cohort = Cohort({"delta": SIZE, "buffers": 3})
        self.aggregation = Aggregation(self.fold, self.cohort, rule=rule, num_bad=num_bad)
        self.aggregation.begin()

    def end(self) -> tuple[np.ndarray, np.ndarray]:
        moved, statistics = np.zeros(SIZE, np.float32), STATISTICS.copy()
        self.aggregation.finish(statistics)
        step = ALGORITHMS["fedavg"].step(1, config_of().server_options)
        self.fold.apply(moved, statistics, {}, step, len(COUNTS))
        return moved, statistics


def plain_mean(arrays: list[np.ndarray], counts: list[int]) -> np.ndarray:
    """The weighted mean in float32, weights in units of the first, one after the other."""
    total = np.zeros_like(arrays[0])
    for array, count in zip(arrays, counts, strict=True):
        total = total + np.float32(count / counts[0]) * array
    return total / np.float32(sum(counts) / counts[0])


@pytest.mark.parametrize("rule", ["mean", "multi-krum"])
def test_honest_clients_come_to_the_plain_weighted_mean_bit_for_bit(rule):
    replies, room = replies_of(3), Room(rule)
    arrays = [dict(reply.update.arrays) for reply in replies]
    known = {"max_samples": 64, "batch_size": 8, "local_epochs": 1, "num_samples": COUNTS}
    gate = Gate(step_length=1e9, gradient_length=1.0, **known)
    for reply in replies:
        room.aggregation.add(reply)
    gate.judge(room.cohort.replies)
    assert all(reply.is_whole for reply in replies)
    moved, statistics = room.end()
    for found, name in ((moved, "delta"), (statistics, "buffers")):
        expected = plain_mean([a[name] for a in arrays], list(COUNTS))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("rule", "trim"), [("mean", None), ("trimmed", 1)])
def test_what_the_gate_took_away_leaves_the_sum_as_if_it_had_not_come(rule, trim):
    room, fewer = Room(rule, trim=trim), Room(rule, trim=trim)
    for reply in replies_of(4):
        if reply.client_id == 2:
            reply.update.arrays["delta"] *= np.float32(1e25)
        room.aggregation.add(reply)
    room.cohort.replies[2].reason = "norm"
    for reply in replies_of(4):
        if reply.client_id != 2:
            fewer.aggregation.add(reply)
    for found, expected in zip(room.end(), fewer.end(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_the_gate_shortens_counts_for_that_much():
    replies, room = replies_of(5), Room("mean")
    arrays = [dict(reply.update.arrays) for reply in replies]
    for reply in replies:
        room.aggregation.add(reply)
    replies[1].scale = {"delta": 0.25, "buffers": 0.5}
    moved, statistics = room.end()
    deltas = [a["delta"] * np.float32(0.25 if k == 1 else 1) for k, a in enumerate(arrays)]
    drifts = [(a["buffers"] - STATISTICS) * (0.5 if k == 1 else 1) for k, a in enumerate(arrays)]
    np.testing.assert_allclose(moved, np.average(deltas, axis=0, weights=COUNTS), atol=1e-6)
    expected = STATISTICS + np.average(drifts, axis=0, weights=COUNTS)
    np.testing.assert_allclose(statistics, expected, atol=1e-6)


def test_products_are_those_of_shortened_vectors():
    replies, room = replies_of(6), Room("geometric-median")
    deltas = np.stack([reply.update.arrays["delta"] for reply in replies])
    for reply in replies:
        room.aggregation.add(reply)
    replies[0].scale = {"delta": 0.5}
    deltas[0] *= np.float32(0.5)
    np.testing.assert_allclose(room.cohort.products(replies), products(deltas), rtol=1e-9)


def test_no_vector_of_a_cohort_stays_in_memory():
    room = Room("mean")
    for reply in replies_of(7):
        room.aggregation.add(reply)
    assert all(not reply.update.arrays for reply in room.cohort.replies)
    assert all(len(s) == ENTRIES for r in room.cohort.replies for s in r.sketches.values())


def test_a_sketch_keeps_angles():
    rng = np.random.default_rng(8)
    shared = rng.normal(size=400_000)
    vectors = [(shared * pull + rng.normal(size=400_000)) for pull in (0, 0.3, 0.5, 1, 3)]
    whole = np.stack(vectors).astype(np.float32)
    short = np.stack([sketch(vector) for vector in whole])
    assert np.abs(cosines(products(short)) - cosines(products(whole))).max() < 0.06


def test_a_spool_leaves_no_file_and_returns_what_it_took(tmp_path):
    spool, rows = Spool(tmp_path, 10), np.arange(30, dtype=np.float32).reshape(3, 10)
    for row in (2, 0, 1):
        spool.write(row, 0, rows[row])
    spool.write(1, 4, np.float32([-1, -2]))
    out = np.empty(7, np.float32)
    spool.read(1, 3, out)
    np.testing.assert_array_equal(out, [13, -1, -2, 16, 17, 18, 19])
    assert not list(tmp_path.iterdir())
