import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from pchmr.metrics import (
    SCORES,
    Mean,
    MetricState,
    foot_sliding,
    jitter,
    means,
    mpjpe,
    mpvpe,
    pa_mpjpe,
    paper_means,
    root_error,
    world_mpjpe,
)


def people(seed: int, batch: int = 4, joints: int = 14) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, joints, 3)))


def scipy_pa_mpjpe(source: np.ndarray, target: np.ndarray) -> float:
    """Similarity Procrustes without reflection, one sample, through SciPy."""
    a, b = source - source.mean(0), target - target.mean(0)
    rotation, _ = orthogonal_procrustes(a, b)
    if np.linalg.det(rotation) < 0:
        u, s, vt = np.linalg.svd(a.T @ b)
        u[:, -1] *= -1
        rotation, scale = u @ vt, (s[:-1].sum() - s[-1]) / (a**2).sum()
    else:
        scale = np.trace(rotation.T @ a.T @ b) / (a**2).sum()
    return float(np.linalg.norm(scale * a @ rotation - b, axis=1).mean())


def test_known_distance_in_every_joint() -> None:
    truth = people(0)
    moved = truth + torch.tensor([3.0, 0.0, 4.0])
    assert torch.allclose(mpjpe(moved, truth), torch.full((4,), 5.0).double())
    assert torch.allclose(mpvpe(moved, truth), torch.full((4,), 5.0).double())


def test_pa_mpjpe_agrees_with_scipy() -> None:
    source, target = people(1), people(2)
    expected = [scipy_pa_mpjpe(s, t) for s, t in zip(source.numpy(), target.numpy(), strict=True)]
    assert np.allclose(pa_mpjpe(source, target).numpy(), expected, atol=1e-12)


def test_pa_mpjpe_ignores_similarity_and_refuses_reflection() -> None:
    target = people(3)
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    turn = torch.from_numpy(turn * np.sign(np.linalg.det(turn)))
    moved = 1.7 * target @ turn + 5.0
    assert pa_mpjpe(moved, target).max() < 1e-12
    assert pa_mpjpe(target * torch.tensor([-1.0, 1.0, 1.0]), target).min() > 0.1


def test_pa_mpjpe_of_a_point_is_finite() -> None:
    target = people(5)
    assert torch.isfinite(pa_mpjpe(torch.zeros_like(target), target)).all()


def test_merged_states_equal_one_state() -> None:
    values = torch.arange(7.0)
    whole, left, right = MetricState(), MetricState(), MetricState()
    whole.add({"mpjpe": values})
    left.add({"mpjpe": values[:2]})
    right.add({"mpjpe": values[2:], "mpvpe": values[:1]})
    merged = left.merge(right)
    assert merged.scores_mm()["mpjpe_mm"] == whole.scores_mm()["mpjpe_mm"] == 3000.0
    assert merged.scores_mm()["mpvpe_mm"] == 0.0


def test_nothing_added_is_not_zero() -> None:
    state = MetricState()
    state.add({"mpvpe": torch.zeros(0)})
    assert state.scores_mm() == {}
    assert math.isnan(Mean().value)


@pytest.mark.parametrize("batch", [1, 3])
def test_errors_are_per_sample(batch: int) -> None:
    assert mpjpe(people(6, batch), people(7, batch)).shape == (batch,)


def published_means(errors, known, num_processes, batch_size):
    """As the reference does it: meters that are updated batch by batch, one set a process."""
    indices = list(range(len(errors)))
    indices += indices[: -len(errors) % num_processes]
    ranks = []
    for rank in range(num_processes):
        own = indices[rank::num_processes]
        sums = {name: [0.0, 0] for name in SCORES}
        for start in range(0, len(own), batch_size):
            rows = own[start : start + batch_size]
            for column, name in enumerate(SCORES):
                kept = [float(errors[r, column]) for r in rows if known[r, column]]
                number = sum(bool(known[r, 0]) for r in rows) if column == 1 else len(kept)
                if number:
                    sums[name][0] += number * sum(kept) / len(kept)
                    sums[name][1] += number
        ranks.append({name: total / number for name, (total, number) in sums.items()})
    return {f"{n}_mm": 1000 * sum(r[n] for r in ranks) / num_processes for n in SCORES}


@pytest.mark.parametrize(("processes", "batch"), [(1, 4), (4, 3), (3, 16)])
def test_published_averaging(processes, batch) -> None:
    generator = torch.Generator().manual_seed(0)
    errors, known = (torch.rand(23, 3, generator=generator) for _ in range(2))
    known = known < 0.7
    known[:, 1] = True
    found = paper_means(errors, known, processes, batch)
    assert found == pytest.approx(published_means(errors, known, processes, batch), rel=1e-6)
    correct = means(errors, known)
    if processes == 1:
        assert found["mpjpe_mm"] == pytest.approx(correct["mpjpe_mm"])
    if batch < 16:
        assert found["pa_mpjpe_mm"] != pytest.approx(correct["pa_mpjpe_mm"], rel=1e-4)
    known[:, 2] = False
    assert set(paper_means(errors, known, processes, batch)) == {"mpjpe_mm", "pa_mpjpe_mm"}
    errors[4, 0], known[4, 0] = torch.nan, True
    assert all(np.isnan(f(errors, known)["mpjpe_mm"]) for f in (means, paper_means))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_prediction_that_is_not_finite_is_its_own_rows_affair(value: float) -> None:
    truth = people(0, batch=5).float()
    predicted = truth + 0.01
    predicted[2, 3] = value
    others = [0, 1, 3, 4]
    assert torch.isfinite(pa_mpjpe(predicted, truth)).tolist() == [True, True, False, True, True]
    assert torch.equal(
        pa_mpjpe(predicted, truth)[others], pa_mpjpe(predicted[others], truth[others])
    )


def walk(frames: int = 230) -> torch.Tensor:
    """A body of five joints that walks on a curve, metres."""
    generator = torch.Generator().manual_seed(0)
    body = torch.randn(1, 5, 3, generator=generator).double()
    time = torch.arange(frames).double()[:, None]
    way = torch.cat([0.02 * time, 0.3 * (time / 40).sin(), 0.01 * time], dim=1)
    return body + way[:, None]


def turned(points: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.4, 0.1], [0.4, 0, 0.2], [-0.1, -0.2, 0]]))
    return scale * points @ turn.double().T + torch.tensor([3.0, -1, 2]).double()


def test_world_scores_do_not_see_where_and_how_large_the_world_is() -> None:
    truth = walk()
    moved = turned(truth, 1.3)
    assert world_mpjpe(moved, truth) == pytest.approx(0, abs=1e-3)
    assert world_mpjpe(moved, truth, first_frames=2) == pytest.approx(0, abs=1e-3)
    assert root_error(turned(truth)[:, 0], truth[:, 0]) == pytest.approx(0, abs=1e-3)
    assert root_error(moved[:, 0], truth[:, 0]) > 1  # a rigid alignment sees the scale


def test_drift_costs_the_clip_aligned_by_its_first_frames_more() -> None:
    truth = walk()
    drift = truth + 0.002 * torch.arange(len(truth)).double()[:, None, None] * torch.eye(3)[2]
    whole, first = (world_mpjpe(drift, truth, first_frames=n) for n in (None, 2))
    assert 0 < whole < first
    # Each clip of 100 frames starts anew: a drift of 2 mm a frame is 98 mm on average at 99 frames.
    short = world_mpjpe(drift[:100], truth[:100], first_frames=2)
    assert short == pytest.approx(
        world_mpjpe(drift[100:200], truth[100:200], first_frames=2), rel=0.2
    )


def test_root_error_is_a_share_of_the_way() -> None:
    line = torch.zeros(11, 3).double()
    line[:, 0] = torch.arange(11)
    off = line.clone()
    off[:, 1] = torch.tensor([1.0, -1] * 5 + [1]).double() * 0.5
    assert root_error(off, line) == pytest.approx(100 * 0.5 / 10, rel=0.1)
    assert math.isnan(root_error(line[:1], line[:1]))


def test_jitter_and_sliding_by_hand() -> None:
    time = torch.arange(8).double()
    joints = torch.zeros(8, 1, 3).double()
    joints[:, 0, 1] = time**3 / 6  # third difference 1
    assert jitter(joints, 10.0) == pytest.approx(1000)
    still = torch.zeros(4, 2, 3).double()
    still[:, 1, 0] = torch.arange(4).double()  # the second foot walks
    slides = still.clone()
    slides[:, 0, 0] = 0.005 * torch.arange(4).double()
    assert foot_sliding(slides, still) == pytest.approx(5)
    assert math.isnan(foot_sliding(slides[:, 1:], still[:, 1:]))
