"""Mesh levels of a body file: read beside it, else computed once and cached by the body's hash."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from scipy.sparse import csr_matrix, eye

from pchmr.body.archive import LARGEST_MEMBER_BYTES, BodyFileError, read_npy, read_npz, write_npz
from pchmr.body.coarsen import NUM_LEVELS, build_hierarchy, posed_bodies
from pchmr.body.hierarchy import HierarchyError, MeshHierarchy, gather_table
from pchmr.body.model import body_sha256
from pchmr.body.skinning import Skinning
from pchmr.body.unpickle import read_object_npy
from pchmr.seeds import derive_seed

LEVELS_VERSION = 1
NUM_BODIES = 150
DOWNSAMPLING_FILE = "mesh_downsampling.npz"


def hierarchy_of(arrays: Mapping[str, ndarray], folder: Path) -> MeshHierarchy:
    """Levels of a body whose file lies in `folder`."""
    beside = folder / DOWNSAMPLING_FILE
    if beside.is_file():
        return read_downsampling(beside, arrays["f"], len(arrays["v_template"]))
    cached = cache_folder() / f"levels-v{LEVELS_VERSION}-{body_sha256(arrays)[:32]}.npz"
    if cached.is_file():
        try:
            return unpack_hierarchy({**arrays, **read_npz(cached)})
        except (BodyFileError, KeyError, ValueError):
            cached.unlink(missing_ok=True)  # damaged: computed again below
    hierarchy = compute_hierarchy(arrays)
    write_npz(cached, pack_hierarchy(hierarchy))
    return hierarchy


def compute_hierarchy(arrays: Mapping[str, ndarray]) -> MeshHierarchy:
    """Levels fitted to posed bodies drawn by a fixed seed; about ten CPU-seconds."""
    generator = np.random.default_rng(derive_seed(0, "levels"))
    bodies = posed_bodies(Skinning(arrays), NUM_BODIES, generator)
    return build_hierarchy(arrays["v_template"], arrays["f"], bodies)


def cache_folder() -> Path:
    """$PCHMR_CACHE, else ~/.cache/pchmr; the `bodies` folder in it."""
    root = os.environ.get("PCHMR_CACHE") or Path.home() / ".cache" / "pchmr"
    return Path(root) / "bodies"


def read_downsampling(
    path: Path, faces: ndarray, num_vertices: int, num_levels: int = NUM_LEVELS
) -> MeshHierarchy:
    """Levels of a `mesh_downsampling.npz`: only its `A`, `U` and `D` are read.

    Upsampling rows are taken as they are, whatever they sum to. `D` selects the kept vertices; the
    neighbors of the coarsest level are the nonzero entries of its `A`, and each vertex itself. The
    file's own faces hold a foreign class and stay unread; see `_coarse_faces`.
    """
    members = _object_members(path, ("A", "U", "D"))
    adjacency, upsample, downsample = (read_object_npy(path, members[n]) for n in ("A", "U", "D"))
    steps = num_levels - 1
    if min(len(upsample), len(downsample)) < steps or len(adjacency) < num_levels:
        raise BodyFileError(f"{path}: holds fewer than {num_levels} levels")
    sizes = (num_vertices, *(int(matrix.get_shape()[1]) for matrix in upsample[:steps]))
    neighbors = adjacency[steps]
    for level, (matrix, size) in enumerate(zip(adjacency, sizes, strict=False)):
        if matrix.get_shape() != (size, size):
            raise BodyFileError(f"{path}: A[{level}] is {matrix.get_shape()}, expected {size} rows")
    coarser = [_coarse_faces(path.parent, matrix) for matrix in adjacency[1:num_levels]]
    try:
        table = (neighbors + neighbors.T + eye(len(neighbors.indptr) - 1)).toarray() != 0
        return MeshHierarchy(
            num_vertices=sizes,
            upsample=upsample[:steps],
            adjacency=table,
            faces=[faces, *coarser] if all(len(found) for found in coarser) else None,
            downsample=[_kept_rows(matrix) for matrix in downsample[:steps]],
        )
    except (HierarchyError, ValueError) as error:
        raise BodyFileError(f"{path}: {error}") from None


def _coarse_faces(folder: Path, neighbors: csr_matrix) -> Int[ndarray, "faces 3"]:
    """Faces of a coarser level: FastMETRO's `smpl_1723_faces.npy`, else the triples of neighbors.

    On a triangle mesh these are its faces and, where it has a narrow neck, the ring around it; they
    come without orientation, which no loss term asks for.
    """
    number = len(neighbors.indptr) - 1
    beside = folder / f"smpl_{number}_faces.npy"
    if beside.is_file():
        faces = read_npy(beside)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise BodyFileError(
                f"{beside}: holds {faces.dtype} {faces.shape}, expected faces (F, 3)"
            )
        return faces.astype(np.int64)
    later = [set() for _ in range(number)]
    rows, columns = (neighbors + neighbors.T).nonzero()
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row < column:
            later[row].add(column)
    triples = [(a, b, c) for a in range(number) for b in later[a] for c in later[a] & later[b]]
    return np.array(sorted(triples), dtype=np.int64).reshape(-1, 3)


def upsampling_errors(hierarchy: MeshHierarchy, bodies: ndarray) -> dict[str, float]:
    """Mean distance in millimetres after going down and up again, from each coarser level."""
    errors, kept = {}, np.arange(bodies.shape[1])
    up = None
    for rows, matrix in zip(hierarchy.kept, hierarchy.upsample, strict=True):
        kept = kept[rows]
        up = matrix if up is None else up @ matrix
        back = np.stack([up @ body[kept] for body in bodies])
        distance = np.linalg.norm(back - bodies, axis=2)
        errors[f"upsample_{len(kept)}_mm"] = 1000.0 * float(distance.mean())
    return errors


def pack_hierarchy(hierarchy: MeshHierarchy) -> dict[str, ndarray]:
    """Mesh levels as plain arrays; the finest faces are the body's own `f`."""
    if hierarchy.faces is None:
        raise ValueError("levels without faces cannot be packed")
    arrays = {"adjacency": hierarchy.adjacency}
    for level, matrix in enumerate(hierarchy.upsample):
        indices, weights = gather_table(matrix)
        arrays[f"upsample_{level}_indices"] = _compact(indices)
        arrays[f"upsample_{level}_weights"] = weights
        arrays[f"vertices_{level + 1}"] = _compact(hierarchy.kept[level])
        arrays[f"faces_{level + 1}"] = _compact(hierarchy.faces[level + 1])
    return arrays


def unpack_hierarchy(arrays: Mapping[str, ndarray]) -> MeshHierarchy:
    """Computed levels from the arrays of `pack_hierarchy`, and the body's `v_template` and `f`."""
    sizes, faces, upsample, kept = [len(arrays["v_template"])], [arrays["f"]], [], []
    level = 0
    while f"upsample_{level}_indices" in arrays:
        indices = arrays[f"upsample_{level}_indices"].astype(np.int64)
        kept.append(arrays[f"vertices_{level + 1}"].astype(np.int64))
        sizes.append(len(kept[-1]))
        faces.append(arrays[f"faces_{level + 1}"].astype(np.int64))
        rows = np.repeat(np.arange(len(indices)), indices.shape[1])
        values = arrays[f"upsample_{level}_weights"].ravel()
        matrix = csr_matrix((values, (rows, indices.ravel())), shape=tuple(sizes[-2:]))
        matrix.eliminate_zeros()
        upsample.append(matrix)
        level += 1
    return MeshHierarchy(
        num_vertices=tuple(sizes),
        upsample=upsample,
        adjacency=arrays["adjacency"],
        faces=faces,
        downsample=kept,
        is_computed=True,
    )


def _compact(indices: ndarray) -> ndarray:
    """The same indices in the smallest unsigned type that holds them."""
    return indices.astype(np.min_scalar_type(int(indices.max(initial=0))))


def _kept_rows(selection: csr_matrix) -> ndarray:
    """The fine vertex that each row of a downsampling matrix selects."""
    if (np.diff(selection.indptr) == 0).any():
        raise BodyFileError("D holds an empty row")
    return np.asarray(selection.argmax(axis=1)).ravel().astype(np.int64)


def _object_members(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                info = archive.getinfo(f"{name}.npy")
                if info.file_size > LARGEST_MEMBER_BYTES:
                    raise BodyFileError(f"{path}: member {name} is larger than 1 GiB")
                found[name] = archive.read(info)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise BodyFileError(f"{path}: cannot be read as {DOWNSAMPLING_FILE} ({error})") from None
    return found
