"""The embedded body as shipped: sums, sides, symmetry, levels, errors that the build measured."""

import numpy as np
import pytest
import torch
import trimesh

from pchmr.body import BodyModel
from pchmr.body.archive import read_npz, write_npz
from pchmr.body.coarsen import posed_bodies
from pchmr.body.files import ASSET, embedded_meta
from pchmr.body.hierarchy import face_adjacency
from pchmr.body.joints import COCO_23, H36M_17, SMPL_24
from pchmr.body.levels import upsampling_errors


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return read_npz(ASSET)


def test_sizes(body: BodyModel) -> None:
    assert body.hierarchy.num_vertices == (6890, 1723, 431)
    assert body.num_betas == 10 and len(body.parents) == 24
    assert ASSET.stat().st_size < 1_200_000
    assert body.gender == "neutral" and len(body.sha256) == 64


def test_rows_sum_to_one(body: BodyModel) -> None:
    for name in ("weights", "J_regressor", "J_regressor_h36m", "J_regressor_coco"):
        sums = body.get_buffer(name).sum(dim=1)
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)
    for matrix in body.hierarchy.upsample:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_rest_joints_stand_where_a_person_has_them(body: BodyModel) -> None:
    joints = dict(zip(SMPL_24.names, body.rest_joints(torch.zeros(1, 10))[0], strict=True))
    height = joints["head"][1] - joints["left_ankle"][1]
    assert 1.3 < height < 1.6
    assert joints["left_wrist"][0] > joints["left_elbow"][0] > joints["left_shoulder"][0] > 0.1
    assert joints["left_foot"][2] > joints["left_ankle"][2] + 0.08, "toes point forward"
    for name, point in joints.items():
        assert name.startswith("left_") == bool(point[0] > 0.01), name


@pytest.mark.parametrize("joint_set", [SMPL_24, H36M_17, COCO_23])
def test_left_and_right_mirror_each_other(body: BodyModel, joint_set) -> None:
    joints = body.regress(body.v_template, joint_set)
    mirrored = joints[list(joint_set.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(joints, mirrored, atol=1e-3, rtol=0)
    for name, point in zip(joint_set.names, joints, strict=True):
        if "left" in name:
            assert point[0] > 0.01, name


def test_the_mesh_is_its_own_mirror_image(body: BodyModel, arrays) -> None:
    mirror = arrays["mirror"].astype(np.int64)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(body.v_template[mirror] * flip, body.v_template, atol=2e-6, rtol=0)
    change = body.shapedirs[mirror] * flip[:, None]
    torch.testing.assert_close(change, body.shapedirs, atol=2e-6, rtol=0)


def test_every_level_is_watertight_and_faces_outward(body: BodyModel) -> None:
    points = body.levels(body.v_template)
    for vertices, faces in zip(points, body.hierarchy.faces, strict=True):
        mesh = trimesh.Trimesh(vertices.numpy(), faces, process=False)
        assert mesh.is_watertight and mesh.euler_number == 2 and mesh.volume > 0.04


def test_adjacency_is_that_of_the_coarsest_faces(body: BodyModel) -> None:
    expected = face_adjacency(body.hierarchy.faces[-1], 431)
    assert np.array_equal(body.hierarchy.adjacency, expected)


def test_joints_lie_inside_the_body(body: BodyModel, arrays) -> None:
    inner = [n for n in SMPL_24.names if "foot" not in n and "hand" not in n]
    joints = body.rest_joints(torch.zeros(1, 10))[0][list(SMPL_24.indices(tuple(inner)))].numpy()
    corners = body.v_template.numpy()[body.faces.numpy()]
    for name, joint in zip(inner, joints, strict=True):
        assert abs(winding_number(corners - joint)) > 0.9, name


def test_upsampling_reaches_bodies_that_were_not_fitted(body: BodyModel) -> None:
    bodies = posed_bodies(body, 8, np.random.default_rng(1234))
    errors = upsampling_errors(body.hierarchy, bodies)
    assert errors["upsample_1723_mm"] <= 1.3 and errors["upsample_431_mm"] <= 3.5


def test_the_build_reached_its_targets() -> None:
    meta = embedded_meta()
    assert meta["betas_held_out_mm"] <= 1.5 and meta["upsample_431_mm"] <= 3.5


def test_writing_the_same_arrays_gives_the_same_bytes(arrays, tmp_path) -> None:
    write_npz(tmp_path / "copy.npz", arrays)
    assert (tmp_path / "copy.npz").read_bytes() == ASSET.read_bytes()


def winding_number(corners: np.ndarray) -> float:
    """Solid angle of all triangles (van Oosterom and Strackee 1983) over the full sphere."""
    a, b, c = (corners[:, k] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
    volume = (a * np.cross(b, c)).sum(axis=1)
    dots = ((x * y).sum(axis=1) * length for x, y, length in ((a, b, lc), (b, c, la), (c, a, lb)))
    return float(2 * np.arctan2(volume, la * lb * lc + sum(dots)).sum() / (4 * np.pi))
