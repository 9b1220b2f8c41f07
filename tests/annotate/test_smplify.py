"""The published baseline: its camera, its frozen translation, its terms' derivatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pchmr.annotate import smplify
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.kinematics import State, step
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Weights
from pchmr.annotate.smplify import (
    BODY_TERMS,
    TORSO,
    _default_cameras,
    camera_terms,
    fit_smplify,
)
from pchmr.bench.annotators import score
from pchmr.bench.annotators.oracle import People
from pchmr.body import load_body

pytestmark = pytest.mark.whole


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages as they are, with fewer steps each."""
    monkeypatch.setattr(smplify, "STAGE_STEPS", 6)


def test_depth_follows_the_focal_length_and_the_fit_is_weaker_than_ours(
    annotator: Annotator, noisy: Observations, people: People
) -> None:
    few = noisy.take(slice(0, 4))
    far = fit_smplify(annotator, few)
    near = fit_smplify(annotator, few, given_focal=True)
    assert few.intrinsics is not None
    ratio = (far.state.transl[:, 2] / near.state.transl[:, 2]).numpy()
    assert 0.7 < np.median(ratio / (5000 / few.intrinsics[:, 0, 0])) < 1.4
    ours = score(annotator, annotator.fit(few, MODES["strong-2d"]), people.vertices[:4])
    for fit in (far, near):
        theirs = score(annotator, fit, people.vertices[:4])
        assert bool(theirs["mpvpe_mm"].isfinite().all())
        assert float(ours["mpjpe_mm"].mean()) < float(theirs["mpjpe_mm"].mean())


def test_its_focal_length_is_fixed_and_its_translation_is_that_of_the_torso(
    annotator: Annotator, noisy: Observations
) -> None:
    """The camera step moves root and translation only, and four keypoints alone decide both."""
    few = noisy.take(slice(0, 2))
    assert few.intrinsics is not None
    for given, focal in ((False, np.full(2, 5000.0)), (True, few.intrinsics[:, 0, 0])):
        fit = fit_smplify(annotator, few, given_focal=given)
        assert (fit.state.log_focal == 0).all() and (fit.state.depth == 0).all()
        np.testing.assert_allclose(fit.objective.evidence.focal.numpy(), focal, rtol=1e-6)
    limbs = [row for row, name in enumerate(few.keypoint_names) if name not in TORSO]
    table = few.keypoints_2d.copy()
    table[:, limbs, :2] += 60.0
    moved = fit_smplify(annotator, replace(few, keypoints_2d=table))
    whole = fit_smplify(annotator, few)
    torch.testing.assert_close(moved.state.transl, whole.state.transl, atol=1e-3, rtol=0)


def test_it_is_placed_by_what_is_seen_of_the_torso(
    annotator: Annotator, noisy: Observations
) -> None:
    few = noisy.take(slice(0, 2))
    whole = fit_smplify(annotator, few, given_focal=True).state.transl[:, 2]
    for missing in (("left_hip",), ("left_hip", "right_hip")):
        table = few.keypoints_2d.copy()
        table[:, [few.keypoint_names.index(name) for name in missing]] = np.nan
        fit = fit_smplify(annotator, replace(few, keypoints_2d=table), given_focal=True)
        ratio = fit.state.transl[:, 2] / whole
        assert float(ratio.min()) > 0.6 and float(ratio.max()) < 1.6


def test_derivatives_of_its_terms() -> None:
    from pchmr.bench.annotators.oracle import OracleNoise, draw_people, observe

    plain = load_body()
    double = Annotator(load_body().double())
    seen = observe(plain, draw_people(plain, 2, domain="B"), OracleNoise())
    seen = Observations(**{**vars(seen), "intrinsics": _default_cameras(seen), "focal_sd": 0.0})
    base = double.objective(seen, depth=False, dense=False)
    torso = seen.reading.rows(TORSO)
    start = double.start(2, 0.3, 1.0)
    zero = torch.zeros(2, 2).double()
    transl = torch.tensor([[0.1, 0.0, 25.0], [0.0, 0.2, 30.0]]).double()
    state = State(start.rotmat, start.betas + 0.5, transl, zero + 1, zero[:, 0], zero)
    for terms in (camera_terms(torso, torch.tensor([20.0, 30.0])), BODY_TERMS):
        weights = Weights(prior=4.78, shape=5.0)
        objective = replace(base, terms=terms)
        frame = objective.frame(state, linear=True)
        slopes = [term.derive() for term in objective.terms_at(frame, weights)]
        count = len(objective.skeleton.columns)
        for column in (0, 3, 14, 40, 57, 75, count - 6):
            change = torch.zeros(2, count).double()
            change[:, column] = 1e-6
            ahead, behind = (
                objective.terms_at(objective.frame(tried), weights)
                for tried in (
                    step(objective.skeleton, state, frame.chain.world, sign * change)
                    for sign in (1, -1)
                )
            )
            for slope, plus, minus in zip(slopes, ahead, behind, strict=True):
                numeric = (plus.residual - minus.residual) / 2e-6
                scale = slope.abs().amax().clamp_min(1.0)
                assert float((numeric - slope[..., column]).abs().amax() / scale) < 1e-6
