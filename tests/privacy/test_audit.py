"""The mathematics of the audit's attacks on problems whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from pchmr.federated.vector import Slot
from pchmr.privacy.audit.figures import (
    area_under_curve,
    explained,
    interval_of,
    true_positives,
)
from pchmr.privacy.audit.lineup import Channel, in_sums, sums_of
from pchmr.privacy.audit.rounds import disentangled, season_of, sums_said
from pchmr.privacy.audit.shape import left_out, taught
from pchmr.privacy.audit.sketch import Sketch

SLOTS = (Slot("told", (3000,), 0, 3000), Slot("silent", (50,), 3000, 3050))


def people(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Updates whose first tensor tells the shape, and shapes."""
    rng = np.random.default_rng(seed)
    betas = rng.standard_normal((count, 10))
    mix = np.random.default_rng(99).standard_normal((10, 3000))
    told = betas @ mix / 30 + noise * rng.standard_normal((count, 3000))
    silent = rng.standard_normal((count, 50))
    return np.concatenate([told, silent], axis=1).astype(np.float32), betas


def test_a_sketch_of_a_sum_is_the_sum_of_sketches_and_keeps_products() -> None:
    sketch = Sketch(SLOTS, 1024)
    updates, _ = people(2, 0.0)
    first, second = (sketch(update) for update in updates)
    np.testing.assert_allclose(sketch(updates.sum(0)), first + second, rtol=1e-4, atol=1e-4)
    assert sketch.size == 1024 + 50 and sketch.counts.sum() == 3050
    np.testing.assert_array_equal(abs(first[1024:]), abs(updates[0][3000:]))
    exact = float(updates[0][:3000] @ updates[1][:3000])
    length = np.linalg.norm(updates[0]) * np.linalg.norm(updates[1])
    assert abs(float(first[:1024] @ second[:1024]) - exact) < 0.2 * length


def test_leaving_out_is_what_fitting_without_a_person_gives() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 5)), rng.standard_normal((12, 2))
    kernel, ridge = x @ x.T, 0.3
    shift = ridge * np.diag(kernel).mean()
    _, said = left_out(kernel, y, ridge)
    rest = np.arange(1, 12)
    inner = kernel[np.ix_(rest, rest)] + shift * np.eye(11)
    np.testing.assert_allclose(said[0], kernel[0, rest] @ np.linalg.solve(inner, y[rest]))


@pytest.fixture(scope="module")
def attacked() -> tuple[np.ndarray, np.ndarray, Channel, dict[str, float]]:
    """What is said of 60 targets, their shapes, and the channel."""
    updates, betas = people(200, 0.3)
    sketch = Sketch(SLOTS, 1024)
    features = np.stack([sketch(update) for update in updates])
    shadow, tuning, target = np.split(np.arange(200), [110, 140])
    attack = taught(features, betas, shadow, tuning, sketch.names, sketch.places)
    known = np.concatenate([attack.shadow_said, attack(features[tuning])])
    channel = Channel.of(betas[np.concatenate([shadow, tuning])], known)
    return attack(features[target]), betas[target], channel, attack.by_tensor


def test_shapes_are_found_in_single_updates_and_fade_in_sums(attacked) -> None:
    said, gallery, channel, by_tensor = attacked
    everybody = np.arange(len(gallery))
    found = {
        size: in_sums(channel, said, gallery, sums_of(np.ones(60), size, 1)) for size in (1, 10, 50)
    }
    top1 = {size: one.top1(everybody) for size, one in found.items()}
    assert top1[1] >= 0.8 and top1[1] > top1[10] > top1[50]
    assert found[1].r2(everybody) > 0.7
    assert 0 < found[10].r2(everybody) < 0.2  # a tenth is what a mean of ten could tell
    assert by_tensor["told"] > 0.5 and by_tensor["silent"] < 0.05


def test_the_ceiling_of_a_sum_of_ten_is_about_a_tenth(attacked) -> None:
    _, gallery, _, _ = attacked
    best = in_sums(Channel.exact(gallery), gallery, gallery, sums_of(np.ones(60), 10, 1))
    assert 0.05 < best.r2(np.arange(60)) < 0.15
    assert (
        in_sums(Channel.exact(gallery), gallery, gallery, sums_of(np.ones(60), 1, 1)).top1(
            np.arange(60)
        )
        == 1.0
    )


def test_an_attack_on_noise_stays_at_chance() -> None:
    rng = np.random.default_rng(5)
    gallery, said = rng.standard_normal((60, 10)), rng.standard_normal((60, 10))
    channel = Channel.of(rng.standard_normal((100, 10)), rng.standard_normal((100, 10)))
    found = in_sums(channel, said, gallery, sums_of(np.ones(60), 1, 1))
    assert found.top1(np.arange(60)) < 0.12


def test_many_rounds_give_single_clients_away() -> None:
    rng = np.random.default_rng(3)
    said, weights = rng.standard_normal((1, 20, 4)), rng.uniform(1, 5, 20)
    errors = []
    for num_rounds in (10, 80):
        season = season_of(20, 10, num_rounds, 1, seed=7)
        assert (season.survivors.sum(1) == 7).all()
        told = sums_said(season, said, weights)
        solved = disentangled(season, told, season.survivors @ weights)
        errors.append(np.linalg.norm(solved - said[0]) / np.linalg.norm(said[0]))
    assert errors[1] < 0.15 and errors[1] < errors[0] / 2


def test_scores_have_the_known_values() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0, 0.0])
    is_member = np.array([True, True, False, False, False])
    assert area_under_curve(scores, is_member) == pytest.approx((3 + 2.5) / 6)
    assert true_positives(scores, is_member) == 0.5
    assert np.isnan(area_under_curve(scores, np.ones(5, dtype=bool)))
    truth = np.array([[0.0], [2.0]])
    assert explained(truth, truth) == 1.0 and explained(truth, np.ones((2, 1))) == 0.0
    low, high = interval_of(lambda drawn: float(drawn.mean()), 100, 0)
    assert low < 49.5 < high and high - low < 13


def test_a_folder_that_is_no_federated_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pchmr.cli import main

    for text in (None, "{}", "no json"):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        assert main(["audit", str(tmp_path), "--view", "plain"]) == 2
        words = capsys.readouterr().err
        assert "pchmr federate" in words and len(words.strip().splitlines()) == 1
    assert main(["audit", str(tmp_path), "--cohort", "3"]) == 2
