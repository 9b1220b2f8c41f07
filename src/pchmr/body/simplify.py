"""Mesh simplification by half-edge collapse: every kept vertex is a vertex of the original mesh.

The cost is the quadric error of Garland and Heckbert (SIGGRAPH 1997), evaluated where the edge's
surviving end already lies, plus a length term that keeps triangles even. Because vertices are
chosen and never moved, skinning weights, shapes and poses of a level are those of the fine mesh.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

LENGTH_WEIGHT = 0.1
SMALLEST_NORMAL_AGREEMENT = 0.2
LARGEST_VALENCE = 11


@dataclass(frozen=True, kw_only=True)
class Simplified:
    """A simplified mesh.

    Attributes:
        kept: Indices of the surviving vertices in the original mesh, ascending.
        faces: (F, 3) triangles over the surviving vertices.
        owner: For each original vertex the position in `kept` of the vertex it was merged into.
    """

    kept: ndarray
    faces: ndarray
    owner: ndarray


@dataclass
class _Mesh:
    """The mesh while it shrinks: faces by id, faces around each vertex, quadrics, edge heap."""

    points: ndarray
    faces: dict[int, tuple[int, int, int]]
    around: list[set[int]]
    quadrics: ndarray
    locked: ndarray
    stamp: ndarray
    merged: ndarray
    heap: list[tuple[float, int, int, int, int]] = field(default_factory=list)

    def ring(self, vertex: int) -> set[int]:
        """Neighbors of a vertex."""
        near = {corner for face in self.around[vertex] for corner in self.faces[face]}
        near.discard(vertex)
        return near

    def push(self, vertex: int) -> None:
        """Puts both directions of every edge at a vertex onto the heap."""
        near = np.fromiter(sorted(self.ring(vertex)), dtype=np.int64)
        if near.size == 0:
            return
        joined = self.quadrics[near] + self.quadrics[vertex]
        for gone, stays in ((near, np.full_like(near, vertex)), (np.full_like(near, vertex), near)):
            target = np.concatenate([self.points[stays], np.ones((near.size, 1))], axis=1)
            error = np.einsum("ki,kij,kj->k", target, joined, target)
            square = np.square(self.points[gone] - self.points[stays]).sum(axis=1)
            area = joined[:, :3, :3].trace(axis1=1, axis2=2)
            cost = error + LENGTH_WEIGHT * square * area
            for price, u, v in zip(cost.tolist(), gone.tolist(), stays.tolist(), strict=True):
                if not self.locked[u]:
                    entry = (price, u, v, int(self.stamp[u]), int(self.stamp[v]))
                    heapq.heappush(self.heap, entry)

    def allows(self, gone: int, stays: int, agreement: float) -> bool:
        """Whether merging keeps the surface a manifold and turns no face over."""
        shared = self.around[gone] & self.around[stays]
        if len(shared) != 2:
            return False
        gone_ring, stays_ring = self.ring(gone), self.ring(stays)
        common = gone_ring & stays_ring
        if len(common) != 2 or any(len(self.around[w]) <= 3 for w in common):
            return False
        if self.locked[stays] and any(self.locked[w] for w in gone_ring - stays_ring - {stays}):
            return False  # a new edge across the surface between two border vertices
        valence = len(self.around[gone]) + len(self.around[stays]) - 4
        if valence > LARGEST_VALENCE:
            return False
        moved = [self.faces[face] for face in self.around[gone] - shared]
        before = self.points[np.array(moved)]
        after = self.points[np.array([[stays if c == gone else c for c in f] for f in moved])]
        return bool(np.all(_normal_agreement(before, after) > agreement))

    def collapse(self, gone: int, stays: int) -> None:
        """Merges a vertex into its neighbor."""
        for face in self.around[gone] & self.around[stays]:
            for corner in self.faces.pop(face):
                self.around[corner].discard(face)
        for face in self.around[gone]:
            a, b, c = (stays if corner == gone else corner for corner in self.faces[face])
            self.faces[face] = (a, b, c)
            self.around[stays].add(face)
        self.around[gone] = set()
        self.merged[gone] = stays
        self.quadrics[stays] += self.quadrics[gone]
        self.stamp[gone] += 1
        self.stamp[stays] += 1
        self.push(stays)


def simplify(
    points: Float[ndarray, "vertices 3"],
    faces: Int[ndarray, "faces 3"],
    num_vertices: int,
    locked: Bool[ndarray, " vertices"] | None = None,
) -> Simplified:
    """The mesh with exactly `num_vertices` of its own vertices.

    Args:
        points: Vertex positions in metres.
        faces: Triangles, counter-clockwise from outside. Open borders stay as they are.
        num_vertices: Vertices to keep.
        locked: Vertices that must stay.

    Raises:
        ValueError: If the mesh does not allow so few vertices.
    """
    mesh = _start(points, faces, locked)
    used = int(sum(bool(near) for near in mesh.around))
    for agreement in (SMALLEST_NORMAL_AGREEMENT, 0.0, -1.5):
        for vertex in range(len(points)):
            mesh.push(vertex)
        used = _shrink(mesh, used, num_vertices, agreement)
    if used != num_vertices:
        raise ValueError(f"mesh keeps {used} vertices, cannot be simplified to {num_vertices}")
    return _finish(mesh)


def _shrink(mesh: _Mesh, used: int, wanted: int, agreement: float) -> int:
    while used > wanted and mesh.heap:
        _, gone, stays, gone_stamp, stays_stamp = heapq.heappop(mesh.heap)
        fresh = mesh.stamp[gone] == gone_stamp and mesh.stamp[stays] == stays_stamp
        if fresh and mesh.allows(gone, stays, agreement):
            mesh.collapse(gone, stays)
            used -= 1
    mesh.heap.clear()
    return used


def _start(points: ndarray, faces: ndarray, locked: ndarray | None) -> _Mesh:
    points = np.asarray(points, dtype=np.float64)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = normals / np.maximum(double_area, 1e-20)
    planes = np.concatenate([unit, -(unit * corners[:, 0]).sum(axis=1, keepdims=True)], axis=1)
    products = 0.5 * double_area[:, :, None] * planes[:, :, None] * planes[:, None, :]
    quadrics = np.zeros((len(points), 4, 4))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], products)
    around: list[set[int]] = [set() for _ in points]
    table = {}
    for face, (a, b, c) in enumerate(faces.tolist()):
        table[face] = (a, b, c)
        for corner in (a, b, c):
            around[corner].add(face)
    fixed = border_vertices(faces, len(points))
    return _Mesh(
        points=points,
        faces=table,
        around=around,
        quadrics=quadrics,
        locked=fixed if locked is None else fixed | locked,
        stamp=np.zeros(len(points), dtype=np.int64),
        merged=np.arange(len(points)),
    )


def _finish(mesh: _Mesh) -> Simplified:
    owner = mesh.merged
    while not np.array_equal(owner, owner[owner]):
        owner = owner[owner]
    triangles = np.array([mesh.faces[face] for face in sorted(mesh.faces)], dtype=np.int64)
    kept = np.unique(triangles)
    position = np.zeros(len(owner), dtype=np.int64)
    position[kept] = np.arange(len(kept))
    return Simplified(kept=kept, faces=position[triangles], owner=position[owner])


def border_vertices(
    faces: Int[ndarray, "faces 3"], num_vertices: int
) -> Bool[ndarray, " vertices"]:
    """True at vertices of edges that have only one face."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    border = np.zeros(num_vertices, dtype=bool)
    border[unique[counts == 1]] = True
    return border


def _normal_agreement(before: ndarray, after: ndarray) -> ndarray:
    """Cosine between the normals of triangles before and after; -1 for a triangle without area."""
    normals = []
    for corners in (before, after):
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20))
    degenerate = np.linalg.norm(normals[1], axis=1) < 0.5
    return np.where(degenerate, -1.0, (normals[0] * normals[1]).sum(axis=1))
