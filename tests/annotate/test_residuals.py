"""The analytic derivative of every term against central differences, in double precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pchmr.annotate.kinematics import Skeleton, State, pose, step
from pchmr.annotate.prior import fit_prior
from pchmr.annotate.residuals import TERMS, Evidence, Objective, Weights
from pchmr.annotate.rig import join, rig_joints, rig_regressor
from pchmr.annotate.surface import Surface
from pchmr.body import BodyModel
from pchmr.geometry import rotvec_to_rotmat

STEP = 1e-6
WEIGHTS = Weights(depth_sd=0.05, dense=10.0)


@pytest.fixture(scope="module")
def double_body(body: BodyModel) -> BodyModel:
    """The embedded body in double precision, with pose correctives left out as shipped."""
    from pchmr.body import load_body

    return load_body().double()


def objective_of(body: BodyModel, depth_kind: str) -> tuple[Objective, State]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int, sd: float = 1.0) -> Tensor:
        return sd * torch.randn(*shape, generator=generator, dtype=torch.float64)

    rig = join([rig_regressor(body, body.J_regressor_coco), rig_joints(body, ("left_hand",))])
    batch, count, rays = 2, len(rig), 12
    poses = noise(300, 23, 3, sd=0.4).numpy()
    limits = np.stack([np.full(69, -0.1), np.full(69, 0.1)], axis=-1)
    evidence = Evidence(
        keypoints=500 + noise(batch, count, 2, sd=100),
        confidence=torch.rand(batch, count, generator=generator, dtype=torch.float64),
        pixel_unit=torch.tensor([1.0, 0.7]).double(),
        center=torch.full((batch, 2), 480.0).double(),
        focal=torch.tensor([900.0, 1200.0]).double(),
        focal_sd=torch.tensor([0.1, 0.2]).double(),
        depth=noise(batch, count, sd=0.2),
        depth_confidence=torch.ones(batch, count).double(),
        depth_kind=depth_kind,  # pyright: ignore[reportArgumentType]
        depth_reference=torch.tensor([3.0, 4.0]).double(),
        surface_offset=torch.full((count,), 0.05).double(),
        rays=torch.cat([noise(batch, rays, 2, sd=0.2), torch.ones(batch, rays, 1)], dim=-1),
        ray_depth=noise(batch, rays, sd=0.2),
        ray_confidence=torch.ones(batch, rays).double(),
        bones=0.3 * noise(batch, 4, 3),
        bone_weight=torch.tensor([[5.0, 8.0, 0.0, 6.0]]).double().expand(batch, -1),
        bone_ends=torch.tensor([[5, 7], [7, 9], [11, 13], [0, 5]]),
        told_bones=0.3 * noise(batch, 4, 3),
    )
    objective = Objective(
        skeleton=Skeleton.of(body),
        rig=rig,
        prior=fit_prior(poses, limits=limits, num_components=2).to(body.v_template),
        surface=Surface.of(body, 60),
        evidence=evidence,
        terms=TERMS,
    )
    state = State(
        rotmat=rotvec_to_rotmat(noise(batch, 24, 3, sd=0.5)),
        betas=noise(batch, 10),
        transl=torch.tensor([[0.1, 0.2, 3.0], [-0.1, 0.0, 4.0]]).double(),
        depth=torch.tensor([[1.1, 3.0], [0.9, 4.0]]).double(),
        log_focal=torch.tensor([0.05, -0.1]).double(),
        tilt=torch.tensor([[0.3, -0.2], [0.1, 0.4]]).double(),
    )
    return objective, state


@pytest.mark.parametrize("depth_kind", ["metric", "affine", "affine_disparity"])
def test_derivatives_equal_central_differences(double_body: BodyModel, depth_kind: str) -> None:
    objective, state = objective_of(double_body, depth_kind)
    matches = objective.associate(state, WEIGHTS)
    frame = objective.frame(state, matches=matches, linear=True)
    slopes = {term.name: term.derive() for term in objective.terms_at(frame, WEIGHTS)}
    chain = frame.chain
    assert set(slopes) == {
        "keypoints", "depth", "scale", "dense", "prior", "limits", "shape", "focal",
        "bones", "tilt", "told",
    }  # fmt: skip
    columns = len(objective.skeleton.columns)
    numeric = {name: torch.zeros_like(slope) for name, slope in slopes.items()}
    # The normal of a match stands still within a step, as it does in the solver's model.
    fixed = objective.surface.normals(chain)
    for column in range(columns):
        change = torch.zeros(2, columns, dtype=torch.float64)
        change[:, column] = STEP
        ahead, behind = (
            _frozen_terms(objective, step(objective.skeleton, state, chain.world, sign * change),
                          matches, fixed)
            for sign in (1, -1)
        )  # fmt: skip
        for plus, minus in zip(ahead, behind, strict=True):
            slope = (plus.residual - minus.residual) / (2 * STEP)
            numeric[plus.name][..., column] = slope
    betas = objective.skeleton.columns.betas
    for name in ("bones", "told"):
        assert not slopes[name][..., betas].any(), "points in space say nothing of the shape"
        numeric[name][..., betas] = 0
    for name, found in slopes.items():
        scale = numeric[name].abs().amax().clamp_min(1.0)
        worst = (found - numeric[name]).abs().amax() / scale
        assert worst < 1e-6, (name, float(worst))


class _FrozenSurface(Surface):
    """A surface whose normals do not turn."""

    def normals(self, chain) -> Tensor:
        return self.kept


def _frozen_terms(objective: Objective, state: State, matches, normals: Tensor):
    frozen = _FrozenSurface(objective.surface.rig, objective.surface.rest_normals)
    object.__setattr__(frozen, "kept", normals)
    held = Objective(**{**vars(objective), "surface": frozen})
    return held.terms_at(held.frame(state, matches=matches), WEIGHTS)


def test_rigged_points_are_the_regressed_joints(body: BodyModel) -> None:
    from pchmr.annotate.kinematics import points
    from pchmr.body.joints import COCO_23

    generator = torch.Generator().manual_seed(1)
    rotvec = 0.4 * torch.randn(3, 24, 3, generator=generator)
    betas, transl = torch.randn(3, 10, generator=generator), torch.randn(3, 3, generator=generator)
    skeleton = Skeleton.of(body)
    zero = torch.zeros(3, 2)
    state = State(rotvec_to_rotmat(rotvec), betas, transl, zero, zero[:, 0], zero)
    chain = pose(skeleton, state)
    posed = body(rotvec[:, 0], rotvec[:, 1:], betas, transl)
    found = points(rig_regressor(body, body.J_regressor_coco), chain, betas)
    torch.testing.assert_close(found, body.regress(posed.vertices, COCO_23), atol=2e-6, rtol=0)
    hands = points(rig_joints(body, ("left_hand", "right_hand")), chain, betas)
    torch.testing.assert_close(chain.joints, posed.joints, atol=2e-6, rtol=0)
    torch.testing.assert_close(hands, posed.joints[:, -2:], atol=2e-6, rtol=0)
