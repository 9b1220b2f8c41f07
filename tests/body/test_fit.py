import pytest
import torch
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.fit import BodyFit, fit_body


def draw(body: BodyModel, batch: int, spread: float, seed: int = 0) -> tuple[Tensor, ...]:
    """Orientation, pose, shape and translation of random people."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, 3, generator=generator) * 1.5,
        torch.randn(batch, len(body.parents) - 1, 3, generator=generator) * spread,
        torch.randn(batch, body.num_betas, generator=generator),
        torch.randn(batch, 3, generator=generator),
    )


def mesh_of(body: BodyModel, fit: BodyFit) -> Tensor:
    return body(fit.global_orient, fit.body_pose, fit.betas, fit.transl).vertices


def mean_mm(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm(dim=-1).mean(dim=-1).max()) * 1000


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_parameters_to_mesh_to_parameters_to_mesh(body: BodyModel, spread: float) -> None:
    vertices = body(*draw(body, 2, spread)).vertices
    fit = fit_body(body, vertices)
    assert mean_mm(mesh_of(body, fit), vertices) < 0.5
    torch.testing.assert_close(
        fit.error, (mesh_of(body, fit) - vertices).norm(dim=-1).mean(dim=-1), atol=1e-5, rtol=0
    )


def test_a_noisy_mesh_gives_the_body_underneath(body: BodyModel) -> None:
    clean = body(*draw(body, 2, 0.4)).vertices
    noise = 0.01 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    assert mean_mm(mesh_of(body, fit_body(body, clean + noise)), clean) < 3


def test_the_same_mesh_gives_the_same_fit_alone_or_in_a_batch(body: BodyModel) -> None:
    vertices = body(*draw(body, 2, 0.4)).vertices
    both = fit_body(body, vertices)
    again = fit_body(body, vertices)
    assert torch.equal(both.body_pose, again.body_pose) and torch.equal(both.betas, again.betas)
    alone = fit_body(body, vertices[1:])
    assert mean_mm(mesh_of(body, alone), mesh_of(body, both)[1:]) < 0.5


def test_a_mesh_that_is_no_body_still_gets_finite_parameters(body: BodyModel) -> None:
    blob = torch.randn(1, body.num_vertices, 3, generator=torch.Generator().manual_seed(2))
    point = torch.zeros(1, body.num_vertices, 3)
    for vertices in (blob, point):
        fit = fit_body(body, vertices)
        values = (fit.global_orient, fit.body_pose, fit.betas, fit.transl, fit.error)
        assert all(bool(value.isfinite().all()) for value in values)


def test_the_tiny_body_fits_too(tiny_body: BodyModel) -> None:
    vertices = tiny_body(*draw(tiny_body, 2, 0.2)).vertices
    fit = fit_body(tiny_body, vertices)
    assert mean_mm(mesh_of(tiny_body, fit), vertices) < 5


def test_a_mesh_that_is_not_finite_gets_nan_and_leaves_the_others_alone(
    tiny_body: BodyModel,
) -> None:
    vertices = tiny_body(*draw(tiny_body, 3, 0.3)).vertices
    alone = fit_body(tiny_body, vertices[[0, 2]])
    for value in (torch.nan, torch.inf, 1e30):
        vertices[1, 5] = value
        fit = fit_body(tiny_body, vertices)
        for name in ("global_orient", "body_pose", "betas", "transl", "error"):
            found = getattr(fit, name)
            assert found[1].isnan().all()
            torch.testing.assert_close(found[[0, 2]], getattr(alone, name), atol=1e-3, rtol=0)
