"""Where metric depth puts people, and which dense points tell of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.annotate.cloud import in_company, layered_share, sift, spread_evenly
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.doubts import FOREIGN, doubts_of
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.observed import Observations
from pchmr.annotate.quality import load_predictors
from pchmr.bench.annotators import score
from pchmr.bench.annotators.clouds import CLOUDS, with_cloud
from pchmr.bench.annotators.oracle import People, draw_people, observe
from pchmr.bench.annotators.placing import PLACED, rebuilt, through_lenses
from pchmr.body import BodyModel
from pchmr.metrics import mrpe


@pytest.fixture(scope="module")
def builds(body: BodyModel) -> People:
    return rebuilt(body, draw_people(body, 8, domain="B", seed=5), 0)


@pytest.fixture(scope="module")
def seen(body: BodyModel, builds: People) -> Observations:
    return observe(body, builds, PLACED)


def errors(annotator: Annotator, fit, people: People, name: str = "mrpe_mm") -> np.ndarray:
    return score(annotator, fit, people.vertices)[name].numpy()


@pytest.mark.parametrize("mode", ["deposer-keypoint", "deposer-dense"])
def test_metric_depth_places_people_of_any_build(
    annotator: Annotator, builds: People, seen: Observations, mode: str
) -> None:
    placed = errors(annotator, annotator.fit(seen, MODES[mode]), builds)
    assert np.median(placed) < 50 and placed.max() < 150
    loose = annotator.fit(replace(seen, depth_scale_sd=0.05), MODES[mode])
    assert np.median(errors(annotator, loose, builds)) > 2 * np.median(placed)


def test_trusted_depth_keeps_its_scale_and_shift(annotator: Annotator, seen: Observations) -> None:
    fit = annotator.fit(seen, MODES["deposer-keypoint"])
    mean = fit.objective.evidence.depth_mean
    assert mean is not None
    assert float((fit.state.depth[:, 0] - 1).abs().max()) < 0.02
    assert float((fit.state.depth[:, 1] - mean).abs().max()) < 0.03
    other = replace(seen, depth_kind="affine", points=None)
    free = annotator.fit(other, MODES["deposer-keypoint"]).state.depth
    assert float((free[:, 0] - 1).abs().min()) > 0.3


def test_root_position_error_is_a_distance() -> None:
    apart = mrpe(torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.3, 0.0, 3.4]]))
    torch.testing.assert_close(apart, torch.tensor([0.5]))


def test_lenses_change_the_distance_and_not_the_size(body: BodyModel, builds: People) -> None:
    other = through_lenses(body, builds, 0)
    before, after = (
        one.intrinsics[:, 0, 0] / one.vertices[..., 2].mean(dim=1) for one in (builds, other)
    )
    assert float((after / before - 1).abs().median()) < 0.1
    assert float((other.intrinsics[:, 0, 0] / builds.intrinsics[:, 0, 0]).std()) > 0.2


@pytest.mark.parametrize("cloud", CLOUDS)
def test_dense_points_of_any_kind_help(
    annotator: Annotator, builds: People, seen: Observations, cloud: str
) -> None:
    flat = annotator.fit(seen, MODES["strong-2d"])
    dense = annotator.fit(with_cloud(builds, seen, cloud, 0), MODES["deposer-dense"])
    pair = [errors(annotator, fit, builds, "mpjpe_mm") for fit in (dense, flat)]
    assert pair[0].mean() < 0.7 * pair[1].mean()


def test_clouds_from_all_sides_are_told(builds: People, seen: Observations) -> None:
    told = {cloud: sift(with_cloud(builds, seen, cloud, 0)) for cloud in CLOUDS}
    assert told["with hidden points"].on_all_sides.all()
    assert not told["evenly seen"].on_all_sides.any()
    depth, given = told["evenly seen"].keypoint_depth, seen.keypoint_depth
    assert given is not None
    assert np.nanmedian(np.abs(depth - given[:, list(seen.reading.columns)])) < 0.05


def test_points_beside_the_person_are_left_out(builds: People, seen: Observations) -> None:
    assert seen.points is not None
    wall = seen.points.copy()
    wall[:, ::3] += [0.0, 0.0, 3.0]
    wall[:, 1::3] += [3.0, 0.0, 0.0]
    kept = sift(replace(seen, points=wall)).points
    middle = np.nanmean(seen.points, axis=1, keepdims=True)
    assert np.nanmax(np.abs(kept - middle)) < 1.6


def test_layers_company_and_even_spread() -> None:
    rng = np.random.default_rng(0)
    front = np.concatenate([rng.uniform(-0.4, 0.4, (200, 2)), np.full((200, 1), 3.0)], axis=-1)
    back = front + np.array([0.01, 0.0, 0.2])
    assert layered_share(front) == 0 and layered_share(np.concatenate([front, back])) > 0.4
    assert layered_share(front[:1]) == 0
    lonely = np.concatenate([front, [[2.0, 0.0, 3.0]]])
    assert not in_company(lonely)[-1] and in_company(lonely)[:-1].mean() > 0.9
    crowded = np.concatenate([front, front[0] + 0.005 * rng.standard_normal((400, 3))])
    kept = spread_evenly(crowded, 100)
    assert len(kept) == 100 and (kept >= 200).mean() < 0.2
    assert spread_evenly(front, 1000).tolist() == list(range(200))


def test_thin_evidence_widens_the_predicted_error(
    annotator: Annotator, builds: People, seen: Observations
) -> None:
    flat = replace(seen, keypoint_depth=None, points=None)
    labelers = [
        Labeler(annotator=annotator, predictors=load_predictors(), mode="strong-2d", source=source)
        for source in ("oracle", "observations")
    ]
    known, foreign = (one.label(flat)["predicted_error_mm"] for one in labelers)
    np.testing.assert_allclose(foreign, FOREIGN * known, rtol=1e-4)
    table = flat.keypoints_2d.copy()
    head = [row for row, name in enumerate(flat.keypoint_names) if name.endswith(("eye", "ear"))]
    table[:, [0, *head]] = np.nan
    headless = replace(flat, keypoints_2d=table)
    doubts = doubts_of(headless, annotator.fit(headless, MODES["strong-2d"]))
    assert (doubts.worsen(np.ones(len(flat))) >= 1.6).all()
