"""Video: one shape, less jitter, feet that stay where they stand."""

import numpy as np
import pytest
import torch

from pchmr.annotate.clips import fit_clip, in_contact, smooth_path, spans
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.keypoints import FOOT_POINTS, LABEL_POINTS
from pchmr.annotate.observations import Observations
from pchmr.annotate.priors.oracle import OracleNoise, People, observe
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
    assert in_contact(path).tolist() == [True] * 4 + [False] * 6
    assert spans(np.array([True, True, False, True, False, True, True, True])) == [(0, 2), (5, 8)]
    assert not in_contact(np.zeros((2, 3))).any()


def test_a_standing_foot_is_wanted_in_one_place() -> None:
    generator = torch.Generator().manual_seed(0)
    path = 0.002 * torch.randn(12, len(LABEL_POINTS), 3, generator=generator)
    wanted, weight = smooth_path(path)
    heel = LABEL_POINTS.index("coco:left_heel")
    nose = LABEL_POINTS.index("coco:nose")
    assert float(wanted[:, heel].std(dim=0).max()) < 1e-6
    assert float(weight[0, heel]) > float(weight[0, nose])


def test_the_baseline_knows_no_video(annotator: Annotator, still: Observations) -> None:
    with pytest.raises(SettingError, match="smplifyx"):
        fit_clip(annotator, still, "smplifyx")
