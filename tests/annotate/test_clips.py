"""Video: one shape, less jitter, feet that stay where they stand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.annotate.clips import fit_clip, in_contact, path_trust, smooth_path, spans
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.keypoints import FOOT_POINTS, LABEL_POINTS
from pchmr.annotate.observations import Observations
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


def test_contact_is_where_a_point_hardly_moves() -> None:
    path = np.zeros((10, 3))
    path[5:, 0] = 0.3 * np.arange(1, 6)
    assert in_contact(path, 30.0).tolist() == [True] * 4 + [False] * 6
    assert spans(np.array([True, True, False, True, False, True, True, True])) == [(0, 2), (5, 8)]
    assert not in_contact(np.zeros((2, 3)), 30.0).any()


@pytest.mark.parametrize("fps", [10.0, 30.0, 120.0])
def test_contact_is_a_speed_whatever_the_frame_rate(fps: float) -> None:
    seconds = np.arange(0, 2, 1 / fps)
    for speed, touches in ((0.3, True), (1.2, False)):
        path = np.stack([speed * seconds, 0 * seconds, 0 * seconds], axis=-1)
        assert (in_contact(path, fps) == touches).all()


def test_a_standing_foot_is_wanted_in_one_place() -> None:
    generator = torch.Generator().manual_seed(0)
    path = 0.002 * torch.randn(12, len(LABEL_POINTS), 3, generator=generator)
    wanted, weight = smooth_path(path, np.ones((12, len(LABEL_POINTS))), 30.0)
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
    wanted, _ = smooth_path(path, trust, 30.0)
    assert float((wanted - straight)[5:38].norm(dim=-1).max()) < 0.08
    bent, _ = smooth_path(path, np.ones_like(trust), 30.0)
    assert float((bent - straight)[8:13].norm(dim=-1).max()) > 1.0
    blind, _ = smooth_path(path, np.zeros_like(trust), 30.0)
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
