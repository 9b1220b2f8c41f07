"""Video: one shape, less jitter, feet that stay where they stand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.annotate.clips import fit_clip, join_frames, path_trust
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.keypoints import FOOT_POINTS, LABEL_POINTS
from pchmr.annotate.observed import Observations
from pchmr.annotate.paths import Pull, between_pauses, smooth_path, spans, standing
from pchmr.bench.annotators.oracle import OracleNoise, People, observe
from pchmr.config import SettingError


@pytest.fixture(scope="module")
def still(annotator: Annotator, people: People) -> Observations:
    """Ten noisy pictures of one person who does not move."""
    rows = torch.zeros(10, dtype=torch.long)
    frozen = People(
        **{
            name: value[rows] if isinstance(value, torch.Tensor) else value[rows.numpy()]
            for name, value in vars(people).items()
        }
    )
    return observe(annotator.body, frozen, OracleNoise(focal_sd=0.0))


def test_a_clip_has_one_shape_and_less_jitter(annotator: Annotator, still: Observations) -> None:
    mode = "deposer-keypoint"
    single = annotator.fit(still, MODES[mode])
    clip = fit_clip(annotator, still, mode)
    assert (clip.state.betas == clip.state.betas[:1]).all()
    assert single.state.betas.std(dim=0).max() > 0.01
    focal = clip.objective.evidence.focal * clip.state.log_focal.exp()
    assert (focal == focal[:1]).all()

    def jitter(fit) -> float:
        return float(annotator.label_joints(fit).diff(n=2, dim=0).norm(dim=-1).mean())

    def slide(fit) -> float:
        feet = [LABEL_POINTS.index(point) for point in FOOT_POINTS]
        return float(annotator.label_joints(fit)[:, feet].diff(dim=0).norm(dim=-1).mean())

    assert jitter(clip) < 0.6 * jitter(single)
    assert slide(clip) < 0.6 * slide(single)


def stands(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    return standing(path[:, None], np.ones((len(path), 1)), times)


def test_a_foot_stands_where_it_hardly_moves() -> None:
    path = np.zeros((20, 3))
    path[10:, 0] = 0.1 * np.arange(1, 11)
    held = stands(path, np.arange(20) / 30)
    assert (held[:6] > 0.99).all() and (held[12:] == 0).all()
    assert spans(np.array([True, True, False, True, False, True, True, True])) == [(0, 2), (5, 8)]
    assert not stands(np.zeros((2, 3)), np.arange(2) / 30).any()


def test_a_foot_whose_distance_alone_wanders_stands() -> None:
    """It stays where it is in the picture: its depth was seen wrongly."""
    times = np.arange(30) / 25
    path = np.array([0.5, 1.0, 5.0]) * (1 + 0.1 * np.sin(9 * times))[:, None]
    assert (stands(path, times) > 0.99).all()
    path[:, 0] += 2 * times
    assert not stands(path, times).any()


@pytest.mark.parametrize("fps", [10.0, 30.0, 120.0])
def test_standing_is_a_speed_whatever_the_frame_rate(fps: float) -> None:
    seconds = np.arange(0, 2, 1 / fps)
    for speed, holds in ((0.3, 1), (1.2, 0)):
        path = np.stack([speed * seconds, 0 * seconds, 0 * seconds], axis=-1)
        inner = (seconds > 0.3) & (seconds < 1.7)
        np.testing.assert_allclose(stands(path, seconds)[inner], holds)


def test_a_standing_foot_is_wanted_in_one_place() -> None:
    generator = torch.Generator().manual_seed(0)
    path = 0.002 * torch.randn(12, len(LABEL_POINTS), 3, generator=generator)
    wanted, weight = smooth_path(path, np.ones((12, len(LABEL_POINTS))), np.arange(12) / 30)
    heel = LABEL_POINTS.index("coco:left_heel")
    nose = LABEL_POINTS.index("coco:nose")
    assert float(wanted[:, heel].std(dim=0).max()) < 1e-6
    assert float(weight[0, heel]) > float(weight[0, nose])


def test_a_frame_that_was_not_seen_bends_no_neighbor() -> None:
    """Frames far off count as much as they are trusted; without any near, a line joins the rest."""
    path = torch.zeros(40, len(LABEL_POINTS), 3)
    path[..., 0] = 0.05 * torch.arange(40)[:, None]
    straight = path.clone()
    path[10] += 5.0
    path[20:35] += 5.0
    trust = np.ones((40, len(LABEL_POINTS)))
    trust[10] = trust[20:35] = 0.0
    times = np.arange(40) / 30
    wanted, _ = smooth_path(path, trust, times)
    assert float((wanted - straight)[5:38].norm(dim=-1).max()) < 0.08
    bent, _ = smooth_path(path, np.ones_like(trust), times)
    assert float((bent - straight)[8:13].norm(dim=-1).max()) > 1.0
    blind, _ = smooth_path(path, np.zeros_like(trust), times)
    assert torch.isfinite(blind).all()


def test_trust_is_what_was_seen(annotator: Annotator, still: Observations) -> None:
    table = still.keypoints_2d.copy()
    table[3, :, 2] = 0.0
    nose = still.keypoint_names.index("nose")
    table[5, nose, 2] = 0.0
    seen = replace(still, keypoints_2d=table)
    trust = path_trust(annotator, seen, annotator.fit(seen, MODES["strong-2d"]))
    assert (trust[3] == 0).all() and trust[4].min() > 0
    column = LABEL_POINTS.index("coco:nose")
    assert trust[5, column] == 0 < trust[5, LABEL_POINTS.index("h36m:pelvis")]


def test_an_unseen_frame_is_where_its_neighbors_lead(
    annotator: Annotator, still: Observations
) -> None:
    table = still.keypoints_2d.copy()
    table[5] = (5000.0, 5000.0, 0.0)
    whole = fit_clip(annotator, still, "strong-2d")
    gap = fit_clip(annotator, replace(still, keypoints_2d=table), "strong-2d")
    joints, other = annotator.label_joints(whole), annotator.label_joints(gap)
    near = (joints - other).norm(dim=-1).mean(dim=1)
    assert float(near[[3, 4, 6, 7]].max()) < 0.05 and float(near[5]) < 0.12


def test_the_baseline_knows_no_video(annotator: Annotator, still: Observations) -> None:
    with pytest.raises(SettingError, match="smplifyx"):
        fit_clip(annotator, still, "smplifyx")


def test_a_pause_is_no_neighborhood() -> None:
    times = np.concatenate([0.033 * np.arange(10), 5 + 0.033 * np.arange(10)])
    assert between_pauses(times) == [(0, 10), (10, 20)]
    foot = np.zeros((20, 3))
    foot[:, 0] = 3.0 * 0.033 * np.arange(20)
    assert not stands(foot[:10], times[:10])[3:7].any()
    path = torch.zeros(20, len(LABEL_POINTS), 3)
    path[10:] += 4.0
    wanted, _ = smooth_path(path, np.ones((20, len(LABEL_POINTS))), times)
    torch.testing.assert_close(wanted, path)


def test_smoothing_goes_by_time_where_the_rate_changes() -> None:
    """A point at even speed stays on its line although the frames come twice as fast later on."""
    times = np.concatenate([np.arange(10) / 15, 10 / 15 + np.arange(20) / 60])
    path = torch.zeros(30, len(LABEL_POINTS), 3)
    path[..., 0] = torch.from_numpy(2.0 * times)[:, None]
    wanted, _ = smooth_path(path, np.ones((30, len(LABEL_POINTS))), times)
    assert float((wanted - path)[3:27].abs().max()) < 0.06
    assert between_pauses(times) == [(0, 30)] and between_pauses(times[:1]) == [(0, 1)]


def test_a_foot_comes_to_rest_without_a_jump() -> None:
    """Depth errs while a foot stands: it is held in one place, and its neighbors lead there."""
    times = np.arange(60) / 30
    path = torch.zeros(60, len(LABEL_POINTS), 3)
    path[:20, :, 0] = 2.0 * torch.arange(20)[:, None] / 30 - 1.27
    path[20:40, :, 2] = 0.1 * torch.arange(20)[:, None] / 20
    path[40:, :, 0] = 2.0 * torch.arange(1, 21)[:, None] / 30
    wanted, _ = smooth_path(path, np.ones((60, len(LABEL_POINTS))), times)
    heel = wanted[:, LABEL_POINTS.index("coco:left_heel")]
    assert float(heel[22:38].std(dim=0).max()) < 1e-6
    assert float(heel[:, 2].diff().abs().max()) < 0.025


def test_a_harder_pull_leaves_less_jitter(annotator: Annotator, still: Observations) -> None:
    first = annotator.fit(still, MODES["strong-2d"])
    loose, tight = (
        join_frames(annotator, still, "strong-2d", first, pull=pull)
        for pull in (Pull(), Pull(path_sd=0.005))
    )

    def jitter(fit) -> float:
        return float(annotator.label_joints(fit).diff(n=2, dim=0).norm(dim=-1).mean())

    assert jitter(tight) < jitter(loose)
