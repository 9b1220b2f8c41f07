"""The levels of a mesh: fine, mid, coarse, and the sparse matrices between them.

Levels are data. Nothing here knows a vertex count, a joint or a file; `coarsen.py` computes levels
for a body that comes without.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import csr_matrix

from pchmr.config import UserError


class HierarchyError(UserError):
    """Mesh levels whose shapes or values contradict each other."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise HierarchyError(message)


@dataclass(frozen=True, eq=False)
class MeshHierarchy:
    """Mesh levels from fine to coarse.

    Attributes:
        num_vertices: Vertices of each level, strictly decreasing.
        upsample: `upsample[i]` is (num_vertices[i], num_vertices[i + 1]); a level's vertices are
            `upsample[i] @` those of the next coarser level. Rows need not sum to 1.
        adjacency: Symmetric neighbor table of the coarsest level, self included.
        faces: Triangles of each level, or None.
        downsample: `downsample[i]` are the rows of level i that level i + 1 keeps. Without it, each
            coarse vertex stands for the fine vertex that it weighs most in.
        is_computed: Whether this package chose the levels; those of SMPL come with the body.

    Raises:
        HierarchyError: One line that names the level and what is wrong with it.
    """

    num_vertices: tuple[int, ...]
    upsample: Sequence[csr_matrix]
    adjacency: ndarray
    faces: Sequence[ndarray] | None = None
    downsample: Sequence[ndarray] | None = None
    is_computed: bool = False

    def __post_init__(self) -> None:
        counts: tuple[int, ...] = tuple(int(n) for n in self.num_vertices)
        shrinks = all(a > b > 0 for a, b in pairwise(counts))
        _check(
            shrinks and len(counts) > 1,
            f"num_vertices {counts} must hold at least two levels, strictly decreasing",
        )
        put = object.__setattr__
        put(self, "num_vertices", counts)
        put(self, "upsample", _checked_upsample(self.upsample, counts))
        put(self, "adjacency", _checked_adjacency(self.adjacency, self.num_vertices[-1]))
        if self.faces is not None:
            put(self, "faces", _checked_faces(self.faces, counts))
        kept = self.downsample
        if kept is None:
            kept = [heaviest_rows(matrix) for matrix in self.upsample]
        put(self, "downsample", _checked_downsample(kept, counts))

    @property
    def kept(self) -> tuple[ndarray, ...]:
        """`downsample`, which is always filled once validated."""
        return tuple(self.downsample or ())

    @property
    def topology_hash(self) -> str:
        """SHA-256 over counts, adjacency and kept rows: which mesh a network's vertices belong to.

        Integers alone decide, so the same body gives the same hash on every machine.
        """
        digest = hashlib.sha256(repr(self.num_vertices).encode())
        for array in (self.adjacency, *self.kept):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    @property
    def content_hash(self) -> str:
        """SHA-256 over counts, matrices, adjacency, faces and kept rows."""
        digest = hashlib.sha256(repr(self.num_vertices).encode())
        arrays = [self.adjacency, *(self.faces or []), *self.kept]
        for matrix in self.upsample:
            arrays += [matrix.indptr, matrix.indices, matrix.data]
        for array in arrays:
            kind = "<f8" if array.dtype.kind == "f" else "<i8"
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()


def heaviest_rows(upsample: csr_matrix) -> Int[ndarray, " coarse"]:
    """For each coarse vertex the fine vertex that it weighs most in; ties go to the lower index."""
    by_column = upsample.tocsc()
    by_column.sort_indices()
    empty = np.flatnonzero(np.diff(by_column.indptr) == 0)
    _check(empty.size == 0, f"coarse vertex {empty[:1]} carries no fine vertex: give `downsample`")
    bounds = pairwise(by_column.indptr)
    rows = [by_column.indices[a + np.argmax(by_column.data[a:b])] for a, b in bounds]
    return np.asarray(rows, dtype=np.int64)


def gather_table(
    matrix: csr_matrix,
) -> tuple[Int[ndarray, "rows width"], Float[ndarray, "rows width"]]:
    """The matrix as fixed-width gather arrays: column indices (int64) and weights (float32).

    The width is that of the fullest row; shorter rows repeat column 0 with weight 0. Then
    `matrix @ x` equals `(weights[..., None] * x[indices]).sum(axis=1)`.
    """
    matrix = csr_matrix(matrix)
    lengths = np.diff(matrix.indptr)
    width = max(int(lengths.max(initial=0)), 1)
    filled = np.arange(width) < lengths[:, None]
    indices = np.zeros(filled.shape, dtype=np.int64)
    weights = np.zeros(filled.shape, dtype=np.float32)
    indices[filled] = matrix.indices
    weights[filled] = matrix.data
    return indices, weights


def face_adjacency(
    faces: Int[ndarray, "faces 3"], num_vertices: int
) -> Bool[ndarray, "vertices vertices"]:
    """Neighbor table of a mesh: true where two vertices share an edge, and on the diagonal."""
    table = np.eye(num_vertices, dtype=bool)
    for shift in (1, 2):
        table[faces, np.roll(faces, shift, axis=1)] = True
    return table


def _checked_upsample(
    matrices: Sequence[csr_matrix], counts: tuple[int, ...]
) -> tuple[csr_matrix, ...]:
    wanted = list(pairwise(counts))
    _check(
        len(matrices) == len(wanted),
        f"upsample holds {len(matrices)} matrices, {len(counts)} levels need {len(wanted)}",
    )
    checked = []
    for level, (matrix, shape) in enumerate(zip(matrices, wanted, strict=True)):
        found = matrix.get_shape()
        _check(found == shape, f"upsample[{level}] has shape {found}, expected {shape}")
        matrix = csr_matrix(matrix, dtype=np.float32)
        _check(bool(np.isfinite(matrix.data).all()), f"upsample[{level}] holds non-finite weights")
        checked.append(matrix)
    return tuple(checked)


def _checked_adjacency(adjacency: ndarray, count: int) -> Bool[ndarray, "coarse coarse"]:
    table = np.asarray(adjacency) != 0
    _check(
        table.shape == (count, count),
        f"adjacency has shape {table.shape}, expected {(count, count)}",
    )
    _check(bool((table == table.T).all()), "adjacency must be symmetric")
    _check(bool(table.diagonal().all()), "adjacency must include every vertex itself")
    return table


def _checked_faces(faces: Sequence[ndarray], counts: tuple[int, ...]) -> tuple[ndarray, ...]:
    _check(len(faces) == len(counts), f"faces holds {len(faces)} levels, expected {len(counts)}")
    checked = []
    for level, (table, count) in enumerate(zip(faces, counts, strict=True)):
        table = np.asarray(table).astype(np.int64)
        ok = table.ndim == 2 and table.shape[1] == 3
        _check(ok, f"faces[{level}] has shape {table.shape}, expected (F, 3)")
        inside = table.size == 0 or (table.min() >= 0 and table.max() < count)
        _check(bool(inside), f"faces[{level}] points outside its {count} vertices")
        checked.append(table)
    return tuple(checked)


def _checked_downsample(kept: Sequence[ndarray], counts: tuple[int, ...]) -> tuple[ndarray, ...]:
    wanted = len(counts) - 1
    _check(len(kept) == wanted, f"downsample holds {len(kept)} levels, expected {wanted}")
    checked = []
    for level, rows in enumerate(kept):
        rows = np.asarray(rows).astype(np.int64)
        _check(
            rows.shape == (counts[level + 1],),
            f"downsample[{level}] has shape {rows.shape}, expected {(counts[level + 1],)}",
        )
        inside = rows.min() >= 0 and rows.max() < counts[level]
        _check(bool(inside), f"downsample[{level}] points outside its {counts[level]} vertices")
        checked.append(rows)
    return tuple(checked)
