"""Mesh levels for a body that comes without: simplification, fitted sparse upsampling, adjacency.

A level is a subset of the vertices of the finer one (`simplify.py`), so going down is a selection.
Going up is a sparse matrix whose rows sum to 1: barycentric weights on the coarse surface plus a
ridge correction fitted to posed bodies of random shape. Needs nothing but NumPy, SciPy and trimesh.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import csr_matrix

from pchmr.body.hierarchy import MeshHierarchy, face_adjacency
from pchmr.body.joints import SMPL_24
from pchmr.body.simplify import Simplified, simplify
from pchmr.body.skinning import Skinning

NUM_LEVELS = 3
LEVEL_FACTOR = 4
SUPPORT = 9
RIDGE = 1e-4
WEIGHT_STEP = 2.0**-12

# Standard deviation in radians of each axis of a random joint rotation.
POSE_SPREAD = {
    "pelvis": 0.0,
    "spine": 0.15,
    "neck": 0.2,
    "head": 0.2,
    "collar": 0.12,
    "shoulder": 0.5,
    "elbow": 0.5,
    "wrist": 0.25,
    "hand": 0.2,
    "hip": 0.4,
    "knee": 0.5,
    "ankle": 0.2,
    "foot": 0.1,
}


@dataclass(frozen=True, kw_only=True)
class Level:
    """One step down: the simplified mesh and the matrix that goes back up."""

    simplified: Simplified
    upsample: csr_matrix


def level_sizes(num_vertices: int, num_levels: int = NUM_LEVELS) -> tuple[int, ...]:
    """Vertices of each level: a quarter of the finer one, rounded up (6890, 1723, 431)."""
    sizes = [num_vertices]
    while len(sizes) < num_levels:
        sizes.append(-(-sizes[-1] // LEVEL_FACTOR))
    return tuple(sizes)


def build_hierarchy(
    points: Float[ndarray, "vertices 3"],
    faces: Int[ndarray, "faces 3"],
    bodies: Float[ndarray, "bodies vertices 3"],
) -> MeshHierarchy:
    """Levels of a mesh, the upsampling fitted to posed bodies.

    Args:
        points: Template vertices in metres.
        faces: Triangles of the template.
        bodies: Posed bodies of random shape on the same mesh, in metres; about 100.
    """
    sizes = level_sizes(len(points))
    all_faces, upsample, downsample = [faces.astype(np.int64)], [], []
    for size in sizes[1:]:
        level = build_level(points, all_faces[-1], bodies, size)
        kept = level.simplified.kept
        points, bodies = points[kept], bodies[:, kept]
        all_faces.append(level.simplified.faces)
        upsample.append(level.upsample)
        downsample.append(kept)
    return MeshHierarchy(
        num_vertices=sizes,
        upsample=upsample,
        adjacency=face_adjacency(all_faces[-1], sizes[-1]),
        faces=all_faces,
        downsample=downsample,
        is_computed=True,
    )


def random_poses(count: int, generator: np.random.Generator) -> Float[ndarray, "count 24 3"]:
    """Rotation vectors of the 24 joints, normal per axis with the joint's `POSE_SPREAD`."""
    kinds = [name.split("_")[-1].rstrip("123") for name in SMPL_24.names]
    spread = np.array([POSE_SPREAD[kind] for kind in kinds])
    return generator.standard_normal((count, len(SMPL_24), 3)) * spread[:, None]


def posed_bodies(
    body: Skinning, count: int, generator: np.random.Generator
) -> Float[ndarray, "count vertices 3"]:
    """Random shapes in random poses, in metres."""
    poses = torch.from_numpy(random_poses(count, generator).astype(np.float32))
    shape = (count, body.num_betas)
    betas = torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
    with torch.no_grad():
        return body(poses[:, 0], poses[:, 1:], betas).vertices.numpy()


def build_level(
    points: Float[ndarray, "vertices 3"],
    faces: Int[ndarray, "faces 3"],
    bodies: Float[ndarray, "bodies vertices 3"],
    num_vertices: int,
) -> Level:
    """One coarser level with exactly `num_vertices` vertices, and its fitted upsampling."""
    simplified = simplify(points, faces, num_vertices)
    indices, weights = barycentric_support(points, simplified)
    weights = fit_weights(indices, weights, bodies, simplified.kept)
    rows = np.repeat(np.arange(len(points)), indices.shape[1])
    shape = (len(points), num_vertices)
    matrix = csr_matrix((weights.ravel(), (rows, indices.ravel())), shape=shape)
    matrix.eliminate_zeros()
    return Level(simplified=simplified, upsample=matrix)


def barycentric_support(
    points: Float[ndarray, "vertices 3"], simplified: Simplified
) -> tuple[Int[ndarray, "vertices support"], Float[ndarray, "vertices support"]]:
    """For each fine vertex `SUPPORT` coarse vertices, and weights on its closest triangle.

    Only triangles and vertices within two rings of the vertex's owner are considered: close by
    along the surface, so that a finger never borrows from its neighbor.
    """
    coarse, faces = points[simplified.kept], simplified.faces
    near = face_adjacency(faces, len(coarse)).astype(np.float32)
    near = near @ near > 0
    touches = np.zeros((len(coarse), len(faces)), dtype=bool)
    for corner in range(3):
        touches[faces[:, corner], np.arange(len(faces))] = True
    indices = np.zeros((len(points), SUPPORT), dtype=np.int64)
    weights = np.zeros((len(points), SUPPORT))
    corners = coarse[faces]
    for owner in range(len(coarse)):
        mine = np.flatnonzero(simplified.owner == owner)
        triangles = np.flatnonzero(touches[near[owner]].any(axis=0))
        best, share = _closest_triangle(points[mine], corners[triangles])
        chosen = faces[triangles[best]]
        pool = np.flatnonzero(near[owner])
        indices[mine], weights[mine] = _fill_support(points[mine], coarse, chosen, share, pool)
    return indices, weights


def fit_weights(
    indices: Int[ndarray, "vertices support"],
    weights: Float[ndarray, "vertices support"],
    bodies: Float[ndarray, "bodies vertices 3"],
    kept: Int[ndarray, " coarse"],
) -> Float[ndarray, "vertices support"]:
    """Weights corrected by ridge regression towards posed bodies.

    The correction of each row sums to zero, so rows keep the sum 1 and a shifted body comes out
    shifted. Rows that already are exact (a kept vertex) stay as they are.
    """
    fitted = np.empty_like(weights)
    for start in range(0, len(indices), 512):
        rows = slice(start, start + 512)
        local = bodies[:, kept[indices[rows]]].astype(np.float64)
        residual = bodies[:, rows] - np.einsum("vs,bvsx->bvx", weights[rows], local)
        relative = local - local.mean(axis=2, keepdims=True)
        gram = np.einsum("bvsx,bvtx->vst", relative, relative)
        gram += RIDGE * 3 * len(bodies) * np.eye(indices.shape[1])
        right = np.einsum("bvsx,bvx->vs", relative, residual)
        change = np.linalg.solve(gram, right[..., None])[..., 0]
        fitted[rows] = weights[rows] + change - change.mean(axis=1, keepdims=True)
    return round_rows(fitted, WEIGHT_STEP)


def round_rows(
    weights: Float[ndarray, "rows support"], step: float
) -> Float[ndarray, "rows support"]:
    """Weights as multiples of `step`; each row's rounding error goes to its largest entry."""
    rounded = np.round(weights / step) * step
    rows = np.arange(len(weights))
    largest = np.abs(weights).argmax(axis=1)
    rounded[rows, largest] += np.round(weights.sum(axis=1)) - rounded.sum(axis=1)
    return rounded


def _closest_triangle(points: ndarray, corners: ndarray) -> tuple[ndarray, ndarray]:
    """The closest of the triangles for each point, and barycentric coordinates on it."""
    from trimesh.triangles import closest_point, points_to_barycentric  # not at every start

    num_points, num_triangles = len(points), len(corners)
    pairs = np.repeat(corners[None], num_points, axis=0).reshape(-1, 3, 3)
    targets = np.repeat(points, num_triangles, axis=0)
    closest = closest_point(pairs, targets).reshape(num_points, -1, 3)
    distance = np.linalg.norm(closest - points[:, None], axis=2)
    best = distance.argmin(axis=1)
    on_it = closest[np.arange(num_points), best]
    share = points_to_barycentric(corners[best], on_it)
    share = np.clip(share, 0.0, None)
    return best, share / share.sum(axis=1, keepdims=True)


def _fill_support(
    points: ndarray, coarse: ndarray, chosen: ndarray, share: ndarray, pool: ndarray
) -> tuple[ndarray, ndarray]:
    """The triangle's corners, then the nearest others of the pool; the others start at zero."""
    distance = np.linalg.norm(points[:, None] - coarse[pool], axis=2)
    distance[(pool[None, :, None] == chosen[:, None, :]).any(axis=2)] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, : SUPPORT - 3]
    others = pool[order]
    missing = ~np.isfinite(np.take_along_axis(distance, order, axis=1))
    others = np.where(missing, chosen[:, :1], others)
    indices = np.concatenate([chosen, others], axis=1)
    padding = SUPPORT - indices.shape[1]
    indices = np.concatenate([indices, np.repeat(chosen[:, :1], padding, axis=1)], axis=1)
    weights = np.zeros(indices.shape)
    weights[:, :3] = share
    return indices, weights
