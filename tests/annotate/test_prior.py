from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.annotate.prior import PriorError, fit_prior, load_prior, save_prior, weakness
from pchmr.body import BodyModel
from pchmr.workshop.pose_prior import limit_ranges, template_poses


def poses(count: int = 400) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal((count, 23, 3)) + 0.1


def test_whitening_undoes_the_widened_covariance() -> None:
    prior = fit_prior(poses(4000))
    residual, whitening, constant = prior.whiten(torch.from_numpy(poses(4000)).float())
    assert whitening.shape == (4000, 69, 69) and float(constant.abs().max()) == 0
    # Variance 0.09 was widened to 1.3 x 0.09 + 0.01.
    assert float(residual.var()) == pytest.approx(0.09 / (1.3 * 0.09 + 0.01), rel=0.05)


def test_a_mixture_separates_two_kinds_of_poses() -> None:
    both = np.concatenate([poses(), poses() + 1.5])
    prior = fit_prior(both, num_components=2)
    assert sorted(prior.mean.mean(dim=1).tolist()) == pytest.approx([0.1, 1.6], abs=0.05)
    near, _, _ = prior.whiten(torch.full((1, 23, 3), 1.6))
    far, _, _ = prior.whiten(torch.full((1, 23, 3), 0.85))
    assert float(near.norm()) < 0.3 * float(far.norm())


def test_limits_are_silent_inside_and_signed_outside() -> None:
    prior = fit_prior(poses(), limits=np.tile([-0.5, 0.5], (69, 1)))
    inside = prior.beyond_limits(torch.zeros(1, 23, 3))
    outside = prior.beyond_limits(torch.full((1, 23, 3), -0.7))
    assert float(inside.abs().max()) == 0
    torch.testing.assert_close(outside, torch.full((1, 69), -0.2))


def test_a_prior_survives_its_file(tmp_path: Path) -> None:
    prior = fit_prior(poses())
    save_prior(tmp_path / "mine.npz", prior)
    again = load_prior(tmp_path / "mine.npz")
    assert torch.equal(prior.whitening, again.whitening) and len(again.sha256) == 64


def test_bad_priors_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PriorError, match="at least 10"):
        fit_prior(poses(5))
    with pytest.raises(PriorError, match="finite"):
        fit_prior(np.full((50, 23, 3), np.nan))
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(PriorError, match="cannot read pose prior"):
        load_prior(tmp_path / "bad.npz")


def test_the_shipped_prior_knows_the_templates(body: BodyModel) -> None:
    prior = load_prior()
    known = torch.from_numpy(template_poses(body, 24, seed=11)).float()
    strange = 0.8 * torch.randn(24, 23, 3, generator=torch.Generator().manual_seed(0))
    typical = prior.whiten(known)[0].square().sum(dim=-1).mean()
    assert float(typical) < 69 < float(prior.whiten(strange)[0].square().sum(dim=-1).mean())
    assert float((prior.beyond_limits(known) != 0).float().mean()) < 0.05


def test_limit_ranges_hold_one_way_joints() -> None:
    ranges = torch.from_numpy(limit_ranges()).unflatten(0, (23, 3))
    from pchmr.body.joints import SMPL_24

    knee = ranges[SMPL_24.index("left_knee") - 1, 0]
    assert -0.05 < float(knee[0]) < 0.1 and float(knee[1]) > 2


def test_a_weak_prior_is_told() -> None:
    with pytest.warns(UserWarning, match="40 poses"):
        fit_prior(poses(40))
    with pytest.warns(UserWarning, match="hardly differ"):
        narrow = fit_prior(0.01 * poses())
    assert "hardly differ" in weakness(narrow) and not weakness(load_prior())
    assert not weakness(fit_prior(poses()))
    with pytest.warns(UserWarning, match="12 poses"):
        assert "few poses" in weakness(fit_prior(poses(12)))
