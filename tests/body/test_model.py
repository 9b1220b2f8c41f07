import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import (
    COCO_17,
    COCO_23,
    EVALUATION_14,
    H36M_17,
    H36M_TO_EVALUATION,
    METRO_24,
    SMPL_24,
    SMPL_PARENTS,
)
from pchmr.body.skinning import Skinning
from pchmr.geometry import rotvec_to_rotmat

ROOT_PARENT = 2**32 - 1


def draw(body: Skinning, batch: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (len(body.parents) - 1, 3), (body.num_betas,), (3,)]
    values = [torch.randn(batch, *shape, generator=generator, dtype=dtype) for shape in shapes]
    values[1] *= 0.4
    return tuple(values)


def test_zero_pose_is_the_template(body: BodyModel) -> None:
    zero = torch.zeros(1, 3), torch.zeros(1, 23, 3), torch.zeros(1, 10), torch.zeros(1, 3)
    posed = body(*zero)
    torch.testing.assert_close(posed.vertices[0], body.v_template, atol=1e-6, rtol=0)
    expected = body.J_regressor @ body.v_template
    torch.testing.assert_close(posed.joints[0], expected, atol=1e-6, rtol=0)


def test_matrices_are_accepted_in_place_of_vectors(body: BodyModel) -> None:
    root, pose, betas, transl = draw(body)
    by_vector = body(root, pose, betas, transl)
    by_matrix = body(rotvec_to_rotmat(root), rotvec_to_rotmat(pose), betas, transl)
    torch.testing.assert_close(by_vector.vertices, by_matrix.vertices)
    torch.testing.assert_close(by_vector.joints, by_matrix.joints)


def test_leading_axes_and_fewer_betas(tiny_body: BodyModel) -> None:
    root, pose, betas, transl = draw(tiny_body, batch=6)
    betas[:, 4:] = 0
    flat = tiny_body(root, pose, betas, transl)
    shaped = [x.unflatten(0, (2, 3)) for x in (root, pose, betas[:, :4], transl)]
    nested = tiny_body(*shaped)
    torch.testing.assert_close(nested.vertices.flatten(0, 1), flat.vertices)
    torch.testing.assert_close(nested.joints.flatten(0, 1), flat.joints)


def test_wrong_rotation_shape_is_one_line(tiny_body: BodyModel) -> None:
    root, pose, betas, transl = draw(tiny_body)
    with pytest.raises(ValueError, match=r"rotations of shape \(2, 22, 3\)"):
        tiny_body(root, pose[:, 1:], betas, transl)


def test_translation_moves_everything(tiny_body: BodyModel) -> None:
    root, pose, betas, transl = draw(tiny_body)
    still, moved = tiny_body(root, pose, betas), tiny_body(root, pose, betas, transl)
    torch.testing.assert_close(moved.vertices, still.vertices + transl[:, None])
    torch.testing.assert_close(moved.joints, still.joints + transl[:, None])


def test_gradients_are_those_of_finite_differences(tiny_body: BodyModel, tiny_arrays) -> None:
    correctives = 0.01 * np.random.default_rng(2).standard_normal((120, 3, 207))
    arrays = tiny_arrays | {"posedirs": correctives.astype(np.float32)}
    precise = BodyModel(arrays, tiny_body.hierarchy).double()
    inputs = tuple(x.requires_grad_() for x in draw(precise, batch=1, dtype=torch.float64))

    def forward(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        posed = precise(*arguments)
        return posed.vertices[:, ::7], posed.joints

    assert torch.autograd.gradcheck(forward, inputs, fast_mode=True)


def test_gradient_at_the_zero_pose_is_finite(tiny_body: BodyModel) -> None:
    pose = torch.zeros(1, 23, 3, requires_grad=True)
    tiny_body(torch.zeros(1, 3), pose, torch.zeros(1, 10)).vertices.square().sum().backward()
    assert pose.grad is not None and pose.grad.isfinite().all()


def test_smplx_agrees_when_fed_the_same_arrays(body: BodyModel) -> None:
    lbs = pytest.importorskip("smplx.lbs", reason="oracle: pip install 'pchmr[oracle]'")
    root, pose, betas, _ = draw(body)
    posedirs = 1e-3 * torch.randn(207, 3 * 6890, generator=torch.Generator().manual_seed(1))
    arrays = arrays_of(body) | {"posedirs": posedirs.reshape(207, -1, 3).permute(1, 2, 0).numpy()}
    mine = Skinning(arrays)(root, pose, betas)
    whole = torch.cat([root, pose.flatten(1)], dim=1)
    parents = torch.tensor(body.parents)
    vertices, joints = lbs.lbs(
        betas, whole, body.v_template, body.shapedirs, posedirs, body.J_regressor, parents,
        body.weights,
    )  # fmt: skip
    torch.testing.assert_close(mine.vertices, vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(mine.joints, joints, atol=1e-5, rtol=0)


def test_golden_vertices(shared) -> None:
    def rnd(name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> np.ndarray:
        uniform = np.random.RandomState(zlib.crc32(name.encode())).uniform(0, 1, shape)
        return (low + (high - low) * uniform).astype(np.float32)

    weights = rnd("lbs_weights", (6890, 24), 0, 1)
    regressor = rnd("J_regressor", (24, 6890), 0, 1)
    body = Skinning(
        {
            "weights": weights / weights.sum(axis=1, keepdims=True),
            "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
            "posedirs": rnd("posedirs", (6890, 3, 207), -0.01, 0.01),
            "v_template": rnd("v_template", (6890, 3)),
            "shapedirs": rnd("shapedirs", (6890, 3, 10), -0.05, 0.05),
            "kintree_table": np.array([[ROOT_PARENT, *SMPL_PARENTS[1:]], range(24)]),
        }
    )
    pose, betas = (torch.from_numpy(rnd(n, s)) for n, s in (("pose", (3, 72)), ("betas", (3, 10))))
    found = body(pose[:, :3], pose[:, 3:].unflatten(1, (23, 3)), betas).vertices
    with np.load(shared / "goldens" / "geometry.npz") as golden:
        expected = torch.from_numpy(golden["smpl_v"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("joint_set", [SMPL_24, H36M_17, COCO_17, COCO_23, EVALUATION_14])
def test_regress_equals_the_dense_product(body: BodyModel, joint_set) -> None:
    vertices = body(*draw(body)).vertices
    table = body.get_buffer(joint_set.regressor)
    if joint_set is EVALUATION_14:
        table = table[list(H36M_TO_EVALUATION)]
    expected = table[: len(joint_set)] @ vertices
    torch.testing.assert_close(body.regress(vertices, joint_set), expected, atol=1e-5, rtol=0)
    assert body.has_regressor(joint_set)


def test_a_set_without_regressor_is_refused(body: BodyModel) -> None:
    assert not body.has_regressor(METRO_24)
    with pytest.raises(ValueError, match="no regressor for metro_24"):
        body.regress(body.v_template, METRO_24)


def test_dense_regressors_work_too(tiny_body: BodyModel, tiny_arrays) -> None:
    dense = np.full((17, 120), 1 / 120, dtype=np.float32)
    model = BodyModel(tiny_arrays | {"J_regressor_h36m": dense}, tiny_body.hierarchy)
    found = model.regress(model.v_template, H36M_17)
    torch.testing.assert_close(found[3], model.v_template.mean(dim=0), atol=1e-6, rtol=0)


def test_levels_are_subsets_of_the_vertices(body: BodyModel) -> None:
    vertices = body(*draw(body)).vertices
    levels = body.levels(vertices)
    assert tuple(level.shape[1] for level in levels) == body.hierarchy.num_vertices
    first, second = (torch.from_numpy(rows) for rows in body.hierarchy.downsample)
    assert torch.equal(levels[1], vertices[:, first])
    assert torch.equal(levels[2], vertices[:, first[second]])


def test_the_hash_follows_the_arrays(tiny_body: BodyModel, tiny_arrays) -> None:
    assert BodyModel(tiny_arrays, tiny_body.hierarchy).sha256 == tiny_body.sha256
    tiny_arrays["v_template"] += 1e-3
    assert BodyModel(tiny_arrays, tiny_body.hierarchy).sha256 != tiny_body.sha256


def arrays_of(body: BodyModel) -> dict[str, np.ndarray]:
    names = ("v_template", "shapedirs", "J_regressor", "weights")
    table = np.array([[ROOT_PARENT, *body.parents[1:]], range(24)])
    return {name: body.get_buffer(name).numpy() for name in names} | {"kintree_table": table}
