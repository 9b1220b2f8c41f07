"""The SMPL-format body: skinning, mesh levels and joint regressors in one module.

It reads no file (`files.py`) and knows no vertex count.
"""

import hashlib
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from pchmr.body.archive import BodyFileError
from pchmr.body.hierarchy import MeshHierarchy, gather_table
from pchmr.body.joints import COCO_17, COCO_23, EVALUATION_14, H36M_17, SMPL_24, JointSet
from pchmr.body.skinning import Skinning, float_tensor

CORE_ARRAYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "J_regressor",
    "weights",
    "kintree_table",
    "f",
)
OTHER_REGRESSORS = ("J_regressor_h36m", "J_regressor_coco")
REGRESSORS = {
    SMPL_24.name: ("J_regressor", SMPL_24),
    H36M_17.name: ("J_regressor_h36m", H36M_17),
    EVALUATION_14.name: ("J_regressor_h36m", H36M_17),
    COCO_17.name: ("J_regressor_coco", COCO_23),
    COCO_23.name: ("J_regressor_coco", COCO_23),
}
DENSE_SHARE = 0.05


class BodyModel(Skinning):
    """A body in SMPL's format: Y up, facing +Z, its left at +X, metres, T-pose at zero pose.

    Buffers: those of `Skinning` with 24 joints, `faces` (F, 3) int64, and where the file has them
    `J_regressor_h36m` (17, V) and `J_regressor_coco` (23, V).

    Attributes:
        hierarchy: Mesh levels.
        gender: "neutral", "female" or "male".
        sha256: Hash of all arrays that decide meshes and joints, the regressors among them.
        mesh_sha256: Hash without the regressors of other joint sets: of what decides meshes.
        by_gender: Bodies of women and men beside a neutral one, for labels that are of theirs.
    """

    faces: Tensor

    def __init__(
        self, arrays: Mapping[str, ndarray], hierarchy: MeshHierarchy, *, gender: str = "neutral"
    ) -> None:
        """Takes validated arrays under their SMPL names (see `files.py`) and mesh levels."""
        super().__init__(arrays)
        self.gender = gender
        self.hierarchy = hierarchy
        self.by_gender = nn.ModuleDict()
        self.sha256 = body_sha256(arrays)
        self.mesh_sha256 = body_sha256(arrays, CORE_ARRAYS)
        self.register_buffer("faces", torch.from_numpy(arrays["f"].astype(np.int64)))
        self._register_regressors(arrays)

    def regress(
        self, vertices: Float[Tensor, "*batch vertices 3"], joint_set: JointSet
    ) -> Float[Tensor, "*batch joints 3"]:
        """Joints of a set as fixed linear combinations of the vertices.

        Raises:
            ValueError: If the body file brings no regressor for the set.
        """
        if not self.has_regressor(joint_set):
            raise ValueError(
                f"body has no regressor for {joint_set.name}: put {joint_set.regressor}.npy beside "
                "the body file"
            )
        indices = getattr(self, f"_{joint_set.name}_indices")
        weights = getattr(self, f"_{joint_set.name}_weights")
        if indices is None:
            return weights @ vertices
        picked = vertices[..., indices.flatten(), :].unflatten(-2, indices.shape)
        return (picked * weights[..., None]).sum(dim=-2)

    def of(self, gender: str) -> "BodyModel":
        """The body of a gender.

        Raises:
            BodyFileError: It is not at hand.
        """
        if gender in ("neutral", self.gender):
            return self
        if gender not in self.by_gender:
            raise BodyFileError(
                f"the labels are of a {gender} body: give --body FOLDER that holds one, or import "
                "with --truth neutral"
            )
        return cast(BodyModel, self.by_gender[gender])

    def has_regressor(self, joint_set: JointSet) -> bool:
        """Whether `regress` knows the set."""
        return hasattr(self, f"_{joint_set.name}_weights")

    def levels(self, vertices: Float[Tensor, "*batch vertices 3"]) -> tuple[Tensor, ...]:
        """The vertices on every mesh level, finest first."""
        found = [vertices]
        for level in range(len(self.hierarchy.num_vertices) - 1):
            found.append(found[-1][..., getattr(self, f"_kept_{level}"), :])
        return tuple(found)

    def _register_regressors(self, arrays: Mapping[str, ndarray]) -> None:
        for level, rows in enumerate(self.hierarchy.kept):
            self.register_buffer(f"_kept_{level}", torch.from_numpy(rows), persistent=False)
        for name in OTHER_REGRESSORS:
            if name in arrays:
                self.register_buffer(name, float_tensor(arrays[name]))
        for joint_set in (SMPL_24, H36M_17, EVALUATION_14, COCO_17, COCO_23):
            key, ordered = REGRESSORS[joint_set.name]
            if key not in arrays:
                continue
            rows = np.asarray(arrays[key], dtype=np.float32)
            rows = rows[list(ordered.indices(joint_set.names))]
            indices, weights = _regressor_table(rows)
            self.register_buffer(f"_{joint_set.name}_indices", indices, persistent=False)
            self.register_buffer(f"_{joint_set.name}_weights", weights, persistent=False)


def body_sha256(
    arrays: Mapping[str, ndarray], names: tuple[str, ...] = CORE_ARRAYS + OTHER_REGRESSORS
) -> str:
    """SHA-256 over the arrays that decide what a body does, absent ones skipped."""
    digest = hashlib.sha256()
    for name in names:
        array = arrays.get(name)
        if array is not None:
            kind = "<f4" if array.dtype.kind == "f" else "<i8"
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array.astype(kind)).tobytes())
    return digest.hexdigest()


def _regressor_table(rows: ndarray) -> tuple[Tensor | None, Tensor]:
    """Gather indices and weights (K, width); a regressor that is not sparse stays dense (K, V)."""
    indices, weights = gather_table(csr_matrix(rows))
    if indices.shape[1] > DENSE_SHARE * rows.shape[1]:
        return None, torch.from_numpy(rows)
    return torch.from_numpy(indices), torch.from_numpy(weights)
