"""The derivation's own steps, without Anny: merge table, T-pose, shape space, regressors."""

import numpy as np
import torch
import trimesh

from pchmr.body import BodyModel
from pchmr.body.anny_source import MERGE, People, _merge_rule, shortest_arc, skin, t_pose_rotations
from pchmr.body.archive import read_npz
from pchmr.body.files import ASSET
from pchmr.body.joints import COCO_23, H36M_17, SMPL_24
from pchmr.body.regressors import fit_row, pick_pool, rounded, symmetric
from pchmr.workshop.body import (
    COCO_CARRIERS,
    H36M_FROM_SMPL,
    kintree_table,
    reduce_vertices,
    shape_space,
    world_rotations,
)


def test_every_source_bone_moves_with_one_joint() -> None:
    bones = [bone for name in SMPL_24.names for bone in _merge_rule(name)[1]]
    assert len(bones) == 104 and len(set(bones)) == 104
    assert all(center for center, _ in MERGE.values())
    assert _merge_rule("right_knee")[0] == ("lowerleg01.R",)


def test_joint_tables_name_smpl_joints() -> None:
    assert len(H36M_FROM_SMPL) == len(H36M_17) and len(COCO_CARRIERS) == len(COCO_23)
    assert H36M_FROM_SMPL[H36M_17.index("pelvis")] == ("left_hip", "right_hip")
    assert COCO_CARRIERS[COCO_23.index("right_heel")] == "right_ankle"
    assert COCO_CARRIERS[COCO_23.index("left_ear")] == "head"
    assert kintree_table().shape == (2, 24) and kintree_table()[0, 0] == 2**32 - 1


def test_shortest_arc_turns_source_onto_target() -> None:
    source = np.random.default_rng(0).standard_normal((20, 3))
    target = np.array([1.0, 2.0, -1.0])
    rotation = shortest_arc(source, target)
    turned = np.einsum("nij,nj->ni", rotation, source)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    np.testing.assert_allclose(turned, np.tile(target / np.linalg.norm(target), (20, 1)))
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


def test_bent_arms_come_out_straight(body: BodyModel) -> None:
    pose = torch.zeros(1, 24, 3)
    for name, turn in (("left_shoulder", -0.9), ("right_elbow", 0.7), ("left_hip", 0.2)):
        pose[0, SMPL_24.index(name), 2] = turn
    bent = body(pose[:, 0], pose[:, 1:], torch.zeros(1, 10))
    joints = bent.joints.numpy().astype(np.float64)
    weights = body.weights.numpy().astype(np.float64)
    _, straight = skin(bent.vertices.numpy(), joints, t_pose_rotations(joints), weights)
    for side, sign in (("left", 1), ("right", -1)):
        names = tuple(f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hand"))
        arm = straight[0, list(SMPL_24.indices(names))]
        np.testing.assert_allclose(np.ptp(arm[:, 1:], axis=0), 0, atol=1e-9)
        assert (np.diff(sign * arm[:, 0]) > 0).all()
        hip, ankle = straight[0, list(SMPL_24.indices((f"{side}_hip", f"{side}_ankle")))]
        np.testing.assert_allclose((ankle - hip)[0] / (ankle - hip)[1], -sign * 0.06, atol=1e-6)


def test_numpy_skinning_equals_the_body(body: BodyModel) -> None:
    rotvec = np.random.default_rng(0).standard_normal((2, 24, 3)) * 0.3
    pose = torch.from_numpy(rotvec.astype(np.float32))
    expected = body(pose[:, 0], pose[:, 1:], torch.zeros(2, 10))
    rest = body.v_template.numpy()[None].repeat(2, axis=0)
    joints = body.rest_joints(torch.zeros(2, 10)).numpy()
    weights = body.weights.numpy()
    vertices, moved = skin(rest, joints, world_rotations(rotvec), weights)
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(moved, expected.joints.numpy(), atol=1e-5)


def test_shapes_of_ten_directions_are_found_again(monkeypatch) -> None:
    monkeypatch.setattr("pchmr.workshop.body.NUM_FITTED", 150)
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.standard_normal((90, 10)))[0].T
    spread = np.linspace(0.2, 0.02, 10)
    betas = generator.standard_normal((200, 10))
    mean = generator.standard_normal((30, 3))
    people = mean + ((betas * spread) @ directions).reshape(200, 30, 3)
    template, shapedirs, error = shape_space(people.astype(np.float32))
    assert error < 0.01, "millimetres"
    np.testing.assert_allclose(template, people[:150].mean(axis=0), atol=1e-5)
    fitted = np.linalg.norm(shapedirs, axis=(0, 1))
    assert (np.diff(fitted) < 0).all() and 0.1 < fitted[0] < 0.3
    level = template[:, 1] - template[:, 1].mean()
    assert (np.einsum("vk,v->k", shapedirs[:, 1], level) > 0).all(), "larger betas are taller"


def test_reduced_meshes_stay_symmetric(body: BodyModel) -> None:
    mirror = read_npz(ASSET, ["mirror"])["mirror"].astype(np.int64)
    people = People(
        vertices=body.v_template.numpy()[None],
        joints=np.zeros((1, 24, 3)),
        keypoints=np.zeros((1, 23, 3)),
        weights=body.weights.numpy(),
        faces=body.faces.numpy(),
        mirror=mirror,
    )
    found = reduce_vertices(people, 6400)
    points = found.vertices[0]
    np.testing.assert_allclose(points[found.mirror] * [-1, 1, 1], points, atol=2e-6)
    mesh = trimesh.Trimesh(points, found.faces, process=False)
    assert len(points) == 6400 and mesh.is_watertight and mesh.euler_number == 2


def test_a_row_is_a_convex_combination_that_finds_the_joint() -> None:
    generator = np.random.default_rng(0)
    vertices = generator.standard_normal((60, 12, 3))
    truth = np.zeros(12)
    truth[[1, 4, 7]] = 0.5, 0.3, 0.2
    target = np.einsum("v,nvx->nx", truth, vertices)
    row = fit_row(vertices, target, np.array([1, 2, 4, 7, 9]))
    np.testing.assert_allclose(row, truth, atol=1e-6)
    assert row.sum() == 1 and (row >= 0).all()


def test_pools_are_near_and_allowed() -> None:
    points = np.stack([np.arange(50.0), np.zeros(50), np.zeros(50)], axis=1)
    allowed = np.arange(50) % 2 == 0
    pool = pick_pool(points, np.zeros(3), allowed, 5, np.random.default_rng(0))
    assert len(pool) == 5 and allowed[pool].all() and pool.max() <= 38
    everything = pick_pool(points, np.zeros(3), allowed, 500, np.random.default_rng(0))
    assert np.array_equal(everything, np.flatnonzero(allowed))


def test_mirrored_and_rounded_rows() -> None:
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7]])
    even = symmetric(rows, (1, 0), np.array([2, 1, 0]))
    np.testing.assert_allclose(even[0], even[1][[2, 1, 0]])
    assert (rounded(np.full((2, 3), 1 / 3)).astype(np.float32).sum(axis=1) == 1).all()
