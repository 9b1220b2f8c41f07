"""Fits against known people, and the batch against frames one by one."""

from dataclasses import replace

import pytest
import torch

from pchmr.annotate.deposer import MODES, Annotator, Start, refine
from pchmr.annotate.kinematics import State
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Weights
from pchmr.annotate.solver import energy, minimize
from pchmr.bench.annotators import score
from pchmr.bench.annotators.oracle import People
from pchmr.geometry import rotvec_to_rotmat


def mean_mm(annotator: Annotator, fit, people: People, name: str = "mpjpe_mm") -> float:
    return float(score(annotator, fit, people.vertices)[name].mean())


def test_depth_beats_pixels_alone(
    annotator: Annotator, noisy: Observations, people: People
) -> None:
    errors = {
        name: mean_mm(annotator, annotator.fit(noisy, mode), people) for name, mode in MODES.items()
    }
    assert errors["deposer-dense"] < 50
    assert errors["deposer-dense"] < 0.85 * errors["strong-2d"]
    assert errors["deposer-keypoint"] < errors["strong-2d"]


def test_parameters_to_observations_to_parameters(
    annotator: Annotator, clean: Observations, people: People
) -> None:
    """From the true pose, with weak priors and exact observations, the fit stays at the truth."""
    mode = MODES["deposer-keypoint"]
    truth = Start(people.rotmat, people.betas)
    fit = annotator.fit(clean, mode, [truth])
    assert mean_mm(annotator, fit, people, "pa_mpjpe_mm") < 30
    found = fit.objective.terms_at(fit.objective.frame(fit.state), mode.refine[-1].weights)
    pixels = next(term for term in found if term.name == "keypoints")
    assert float(pixels.residual.norm(dim=-1).mean()) < 4


def test_a_frame_fits_the_same_alone_and_in_a_batch(
    annotator: Annotator, noisy: Observations
) -> None:
    together = annotator.vertices(annotator.fit(noisy, MODES["deposer-keypoint"]))
    alone = annotator.vertices(annotator.fit(noisy.take(slice(1, 2)), MODES["deposer-keypoint"]))
    torch.testing.assert_close(alone[0], together[1], atol=5e-3, rtol=0)


def test_energy_never_rises(annotator: Annotator, noisy: Observations) -> None:
    objective = annotator.objective(noisy, depth=True, dense=False)
    weights = Weights(depth_sd=0.05)
    generator = torch.Generator().manual_seed(0)
    count = len(noisy)
    zero = torch.zeros(count)
    state = State(
        rotvec_to_rotmat(0.3 * torch.randn(count, 24, 3, generator=generator)),
        torch.zeros(count, 10),
        torch.tensor([0.0, 0.0, 3.0]).expand(count, 3),
        torch.tensor([1.0, 3.0]).expand(count, 2),
        zero,
        torch.zeros(count, 2),
    )
    before = energy(objective.terms_at(objective.frame(state), weights))
    for _ in range(3):
        done = minimize(objective, state, weights, 2)
        assert bool((done.energy <= before + 1e-4 * before.abs()).all())
        state, before = done.state, done.energy
    eye = torch.eye(3).expand_as(state.rotmat)
    torch.testing.assert_close(state.rotmat @ state.rotmat.mT, eye, atol=1e-5, rtol=0)


def test_missing_keypoints_weigh_nothing(annotator: Annotator, noisy: Observations) -> None:
    table = noisy.keypoints_2d.copy()
    table[:, 3] = [1e6, -1e6, 0.0]
    moved = annotator.vertices(
        annotator.fit(replace(noisy, keypoints_2d=table), MODES["strong-2d"])
    )
    table[:, 3] = float("nan")
    absent = annotator.vertices(
        annotator.fit(replace(noisy, keypoints_2d=table), MODES["strong-2d"])
    )
    assert bool(absent.isfinite().all())
    torch.testing.assert_close(moved, absent, atol=5e-3, rtol=0)


def test_given_camera_is_kept_and_an_unknown_one_is_found(
    annotator: Annotator, noisy: Observations
) -> None:
    held = annotator.fit(replace(noisy, focal_sd=0.0), MODES["strong-2d"])
    assert float(held.state.log_focal.abs().max()) < 1e-4
    free = annotator.fit(replace(noisy, intrinsics=None, points=None), MODES["deposer-keypoint"])
    assert bool(free.state.log_focal.isfinite().all())


def test_a_dragged_keypoint_moves_its_limb(annotator: Annotator, noisy: Observations) -> None:
    mode = MODES["strong-2d"]
    fit = annotator.fit(noisy, mode)
    table = noisy.keypoints_2d.copy()
    column = noisy.keypoint_names.index("left_wrist")
    table[:, column, 0] += 25
    table[:, column, 2] = 1.0
    after = refine(annotator, replace(noisy, keypoints_2d=table), mode, fit.state)
    before = annotator.label_joints(fit)[:, column, 0]
    assert bool((annotator.label_joints(after)[:, column, 0] > before).float().mean() > 0.8)


@pytest.mark.parametrize("kind", ["affine", "affine_disparity"])
def test_depth_up_to_scale_and_shift_helps(annotator: Annotator, people: People, kind: str) -> None:
    from pchmr.bench.annotators.oracle import OracleNoise, observe

    seen = observe(annotator.body, people, OracleNoise(depth_kind=kind))  # pyright: ignore
    fit = annotator.fit(seen, MODES["deposer-keypoint"])
    flat = annotator.fit(seen, MODES["strong-2d"])
    assert mean_mm(annotator, fit, people) < mean_mm(annotator, flat, people)


@pytest.mark.gpu
def test_cuda_gives_the_same_fit(annotator: Annotator, noisy: Observations) -> None:
    from pchmr.body import load_body

    there = Annotator(load_body().to("cuda"))
    here = annotator.vertices(annotator.fit(noisy, MODES["deposer-dense"]))
    found = there.vertices(there.fit(noisy, MODES["deposer-dense"])).cpu()
    assert float((here - found).norm(dim=-1).mean()) < 0.01
