"""Fixtures that every room uses: the embedded body, a tiny body, random people, shared material."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from pchmr.body import BodyModel, MeshHierarchy, load_body
from pchmr.body.joints import COCO_23, EVALUATION_14, H36M_17, SMPL_24, SMPL_PARENTS
from pchmr.data.sample import Sample
from pchmr.geometry import project_pinhole

CORNERS = 5
TINY_RADIUS = 0.05


@pytest.fixture(scope="session")
def body() -> BodyModel:
    """The embedded body: 6890, 1723 and 431 vertices."""
    return load_body()


@pytest.fixture(scope="session")
def tiny_body(body: BodyModel) -> BodyModel:
    """A person of 24 double pyramids, one a joint: 120, 48 and 24 vertices, all regressors."""
    return BodyModel(make_tiny_arrays(body), make_tiny_hierarchy())


@pytest.fixture
def tiny_arrays(body: BodyModel) -> dict[str, np.ndarray]:
    """The arrays of the tiny body, to change at will."""
    return make_tiny_arrays(body)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference material outside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "goldens").is_dir():
        pytest.skip("no ../shared beside the repository: golden files are not distributed")
    return folder


def make_tiny_arrays(body: BodyModel) -> dict[str, np.ndarray]:
    """SMPL-format arrays: vertices 5 j .. 5 j + 4 surround joint j, the first two are its poles."""
    generator = np.random.default_rng(0)
    centers = body.rest_joints(torch.zeros(1))[:, None].numpy()
    angles = 2 * np.pi * np.arange(3) / 3
    ring = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1)
    corners = TINY_RADIUS * np.concatenate([[[0, 1, 0], [0, -1, 0]], ring])
    points = (centers + corners).reshape(-1, 3).astype(np.float32)
    joints = np.arange(len(SMPL_24))
    parents = np.maximum(SMPL_PARENTS, 0)
    weights = np.zeros((len(points), len(joints)), dtype=np.float32)
    weights[np.arange(len(points)), joints.repeat(CORNERS)] += 0.75
    weights[np.arange(len(points)), parents.repeat(CORNERS)] += 0.25
    shapes = 0.01 * generator.standard_normal((len(points), 3, 10))
    shapes[:, :, 0] = 0.05 * points
    sides = [(k, (k + 1) % 3) for k in range(3)]
    pyramid = [[0, 2 + b, 2 + a] for a, b in sides] + [[1, 2 + a, 2 + b] for a, b in sides]
    return {
        "v_template": points,
        "shapedirs": shapes.astype(np.float32),
        "J_regressor": joint_rows(SMPL_24.names, len(points)),
        "J_regressor_h36m": joint_rows(H36M_17.names, len(points)),
        "J_regressor_coco": joint_rows(COCO_23.names, len(points)),
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *SMPL_PARENTS[1:]], joints], dtype=np.int64),
        "f": (CORNERS * joints[:, None, None] + np.array(pyramid)).reshape(-1, 3),
    }


def joint_rows(names: tuple[str, ...], num_vertices: int) -> np.ndarray:
    """Regressor rows: the poles of the joint where SMPL has the name, else a corner near it."""
    rows = np.zeros((len(names), num_vertices), dtype=np.float32)
    for row, name in enumerate(names):
        near = nearest_smpl_joint(name)
        first = CORNERS * SMPL_24.index(near)
        if near == name:
            rows[row, first : first + 2] = 0.5
        else:
            rows[row, first + row % CORNERS] = 1.0
    return rows


def nearest_smpl_joint(name: str) -> str:
    side, _, part = name.partition("_")
    foot = {"big_toe": "foot", "small_toe": "foot", "heel": "ankle"}
    if part in foot:
        return f"{side}_{foot[part]}"
    if name == "torso":
        return "spine2"
    return name if name in SMPL_24.names else "head"


def make_tiny_hierarchy() -> MeshHierarchy:
    """Levels of the tiny body: both poles of each joint, then the upper pole."""
    joints = np.arange(len(SMPL_24))
    parents = np.maximum(SMPL_PARENTS, 0)
    ring = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    adjacency = np.eye(len(joints), dtype=bool)
    adjacency[joints, parents] = adjacency[parents, joints] = True
    pair = np.stack([2 * joints, 2 * joints + 1, 2 * parents], axis=1)[1:]
    triple = np.stack([joints, parents, parents[parents]], axis=1)[4:]
    fine = CORNERS * joints[:, None]
    return MeshHierarchy(
        num_vertices=(CORNERS * len(joints), 2 * len(joints), len(joints)),
        upsample=[
            csr_matrix(np.kron(np.eye(len(joints)), ring)),
            csr_matrix(np.kron(np.eye(len(joints)), [[1.0], [1.0]])),
        ],
        adjacency=adjacency,
        faces=[np.concatenate([fine, fine + 2, fine + 3], axis=1), pair, triple],
        downsample=[np.concatenate([fine, fine + 1], axis=1).ravel(), 2 * joints],
    )


@dataclass(frozen=True)
class ToyPeople:
    """Random people in memory: labels agree with each other, pictures are noise with a hint."""

    sample: Sample
    columns: dict[str, np.ndarray]
    image_size: int
    content_hash: str = "toy"
    is_private: bool = False

    def __len__(self) -> int:
        return len(self.sample)

    def batch(self, indices) -> Sample:
        rows = torch.as_tensor(np.asarray(indices), dtype=torch.long)
        return self.sample.taken(rows)


def make_toy_people(body: BodyModel, count: int = 12, size: int = 32, seed: int = 0) -> ToyPeople:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(count, *shape, generator=generator)

    orient, pose, betas = normal(3, scale=0.5), normal(23, 3, scale=0.2), normal(10, scale=0.5)
    transl = torch.tensor([0.0, 0.0, 4.0]).repeat(count, 1)
    intrinsics = torch.tensor([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    intrinsics = intrinsics.repeat(count, 1, 1)
    vertices = body(orient, pose, betas, transl).vertices
    joints = body.regress(vertices, EVALUATION_14)
    pixels = project_pinhole(joints, intrinsics)
    ones = torch.ones(count, 14, 1)
    images = torch.rand(count, 3, size, size, generator=generator) * 0.5
    images += 0.5 * torch.sigmoid(joints[:, :3, 0]).view(count, 3, 1, 1)
    root = joints[:, list(EVALUATION_14.root)].mean(dim=1, keepdim=True)
    known = torch.ones(count, dtype=torch.bool)
    sample = Sample(
        images=images, keypoints_2d=torch.cat([2 * pixels / size - 1, ones], -1),
        joints=torch.cat([joints - root, ones], -1), global_orient=orient, body_pose=pose,
        betas=betas, transl=transl, intrinsics=intrinsics, has_smpl=known, has_joints=known,
        has_keypoints_2d=known, index=torch.arange(count),
    )  # fmt: skip
    rows = np.arange(count)
    columns = {"subject": rows % 4, "scene": rows % 3, "action": rows % 5, "clip": rows // 4,
               "frame": rows % 4}  # fmt: skip
    return ToyPeople(sample, columns, size)


@pytest.fixture(scope="session")
def make_people():
    """The function that makes random people of any body, number and size."""
    return make_toy_people


@pytest.fixture(scope="session")
def toy_people(tiny_body: BodyModel) -> ToyPeople:
    """Twelve random people of the tiny body."""
    return make_toy_people(tiny_body)


@pytest.fixture(scope="session")
def toy_body_people(body: BodyModel) -> ToyPeople:
    """Twelve random people of the embedded body."""
    return make_toy_people(body)
