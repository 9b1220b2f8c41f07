"""From a set's own labels to those of `Sample`: camera frame, forward pass, square, projection.

The truth is the mesh of each person's own gender where those bodies are given, else of the neutral
body as in the published code. Labels are made once, at import; the body that made them is recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, SMPL_24
from pchmr.data.crops import MARGIN
from pchmr.data.sets.part import Part
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from pchmr.metrics import MM_PER_METRE, pa_mpjpe

CHUNK = 64
ASSUMED_FOCAL = 5000.0 / 224
"""Of a set without cameras, in sides of the crop."""
USUAL_HEIGHT = 1.7  # metres of a person whose distance nothing tells
LABELS: dict[str, tuple[int, ...]] = {
    "keypoints_2d": (14, 3),
    "joints": (14, 4),
    "global_orient": (3,),
    "body_pose": (23, 3),
    "betas": (10,),
    "transl": (3,),
    "intrinsics": (3, 3),
}
"""What a sample holds, and the shape of a row; until a crop is cut, in pixels of the picture."""
DETAILS: dict[str, tuple[int, ...]] = {
    "extrinsics": (3, 4),
    "square": (3,),
    "reprojection_px": (),
    "own_joints_mm": (),
}
"""What checks and world scores look at; NaN where a set does not tell."""
FLAGS = ("has_smpl", "has_joints", "has_keypoints_2d")
Arrays = dict[str, ndarray]


@dataclass(frozen=True)
class Bodies:
    """Who makes the truth.

    Attributes:
        neutral: Body of every row without a body of its own.
        by_gender: Bodies of their own, by gender; empty for neutral truth.
    """

    neutral: BodyModel
    by_gender: Mapping[str, BodyModel]

    def of(self, gender: str) -> BodyModel:
        """The body of a gender."""
        return self.by_gender.get(gender, self.neutral)


@dataclass(frozen=True, kw_only=True)
class Meshes:
    """What bodies make of parameters, metres in the camera's frame.

    Attributes:
        global_orient: Root rotation.
        transl: Of the body.
        joints: The 14 evaluation joints.
        smpl: The 24 joints of the skeleton.
        box: Left, top, right, bottom of the projected mesh, pixels; NaN without a camera.
    """

    global_orient: Float[ndarray, "rows 3"]
    transl: Float[ndarray, "rows 3"]
    joints: Float[ndarray, "rows 14 3"]
    smpl: Float[ndarray, "rows 24 3"]
    box: Float[ndarray, "rows 4"]

    @classmethod
    def empty(cls, count: int) -> "Meshes":
        """Nothing known of so many rows."""
        shapes = {"global_orient": (3,), "transl": (3,), "joints": (14, 3), "smpl": (24, 3)}
        found = {name: np.full((count, *shape), np.nan) for name, shape in shapes.items()}
        return cls(**found, box=np.full((count, 4), np.nan))

    def without(self, rows: Bool[ndarray, " rows"]) -> "Meshes":
        """The same, of some rows nothing."""
        unknown = Meshes.empty(len(rows))
        return Meshes(
            **{
                name: np.where(
                    rows.reshape(-1, *[1] * (values.ndim - 1)), vars(unknown)[name], values
                )
                for name, values in vars(self).items()
            }
        )

    def moved(self, transl: Float[ndarray, "rows 3"]) -> "Meshes":
        """Bodies that stood at the origin, elsewhere."""
        shift = transl[:, None]
        return replace(self, transl=transl, joints=self.joints + shift, smpl=self.smpl + shift)


def place(part: Part, bodies: Bodies) -> Arrays:
    """`LABELS`, `DETAILS` and `FLAGS` of a part before crops are cut, float64.

    A row that cannot be used has a square of NaN.
    """
    meshes = _meshes(part, bodies)
    square = _squares(part, meshes)
    meshes = meshes.without(_is_badly_fitted(part, meshes))
    has_smpl = part.has_smpl & every(np.isfinite(meshes.joints))
    camera = part.intrinsics
    if camera is None:
        camera = _long_lens(square)
        meshes = meshes.moved(_standing(part, meshes, camera, square))
    joints = _known_joints(part, meshes, has_smpl)
    seen = part.keypoints_2d
    if seen is None:
        seen = np.concatenate([_project(joints[..., :3], camera), joints[..., 3:]], axis=-1)
    return {
        "keypoints_2d": _finite(seen),
        "joints": _finite(_about_hips(joints)),
        "global_orient": _finite(meshes.global_orient),
        "body_pose": _finite(part.body_pose),
        "betas": _finite(part.betas),
        "transl": _finite(meshes.transl),
        "intrinsics": camera,
        "extrinsics": _extrinsics(part),
        "square": square,
        "reprojection_px": _reprojection(part, meshes, camera),
        "own_joints_mm": _own_joints(part, meshes),
        "has_smpl": has_smpl,
        "has_joints": ~every(joints[..., 3] <= 0),
        "has_keypoints_2d": ~every(seen[..., 2] <= 0),
    }


def every(holds: Bool[ndarray, "rows ..."]) -> Bool[ndarray, " rows"]:
    """Rows of which everything holds."""
    return np.logical_and.reduce(holds.reshape(len(holds), -1), axis=1)


def _meshes(part: Part, bodies: Bodies) -> Meshes:
    """Forward passes of all rows, each on the body of its gender."""
    found = Meshes.empty(len(part))
    for gender in np.unique(part.texts["gender"][part.has_smpl]):
        rows = np.flatnonzero(part.has_smpl & (part.texts["gender"] == gender))
        for start in range(0, len(rows), CHUNK):
            at = rows[start : start + CHUNK]
            for name, values in vars(_forward(part, bodies.of(str(gender)), at)).items():
                getattr(found, name)[at] = values
    return found


def _is_badly_fitted(part: Part, meshes: Meshes) -> Bool[ndarray, " rows"]:
    """Rows whose mesh stands far from the labeled joints."""
    if part.most_fit_mm is None or part.joints is None:
        return np.zeros(len(part), dtype=bool)
    pair = (meshes.joints, part.joints[..., :3])
    own, labeled = (joints - joints.mean(axis=1, keepdims=True) for joints in pair)
    off = np.linalg.norm(own - labeled, axis=-1).mean(axis=1)
    return MM_PER_METRE * off > part.most_fit_mm


@torch.no_grad()
def _forward(part: Part, body: BodyModel, rows: ndarray) -> Meshes:
    """A forward pass; turning a body about the origin moves its root joint, which is made up for.

    Loper et al. 2015: the root rotation turns about the root joint, not about the origin.
    """
    orient, pose, betas = (
        torch.from_numpy(np.ascontiguousarray(values[rows]))
        for values in (part.global_orient, part.body_pose, part.betas)
    )
    transl = torch.zeros(len(rows), 3, dtype=torch.float64)
    if part.transl is not None:
        transl = torch.from_numpy(np.ascontiguousarray(part.transl[rows]))
    if part.extrinsics is not None:
        view = torch.from_numpy(np.ascontiguousarray(part.extrinsics[rows]))
        turn, shift = view[:, :3, :3], view[:, :3, 3]
        root = body.rest_joints(betas.float())[:, SMPL_24.root[0]].double()
        orient = rotmat_to_rotvec(turn @ rotvec_to_rotmat(orient))
        transl = (turn @ (root + transl)[..., None])[..., 0] + shift - root
    made = body(orient.float(), pose.float(), betas.float(), transl.float())
    joints = body.regress(made.vertices, EVALUATION_14)
    box = np.full((len(rows), 4), np.nan)
    if part.intrinsics is not None:
        box = _box(made.vertices.double().numpy(), part.intrinsics[rows])
    return Meshes(
        global_orient=orient.numpy(),
        transl=transl.numpy(),
        joints=joints.double().numpy(),
        smpl=made.joints.double().numpy(),
        box=box,
    )


def _box(vertices: ndarray, camera: ndarray) -> Float[ndarray, "rows 4"]:
    """The box of a projected mesh; NaN where a part of it is not before the camera."""
    pixels = _project(vertices, camera)
    found = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    found[~every(vertices[..., 2] > 0)] = np.nan
    return found


def _project(points: ndarray, camera: ndarray) -> ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = points @ camera.swapaxes(-1, -2)
        return seen[..., :2] / seen[..., 2:]


def _squares(part: Part, meshes: Meshes) -> Float[ndarray, "rows 3"]:
    """The square of each row: the set's own, else `MARGIN` about the projected mesh."""
    low, high = meshes.box[:, :2], meshes.box[:, 2:]
    side = MARGIN * (high - low).max(axis=1, initial=-np.inf)
    found = np.column_stack([(low + high) / 2, side])
    if part.square is not None:
        found = np.where(every(~np.isnan(part.square))[:, None], part.square, found)
    return np.where((found[:, 2] > 0)[:, None] & np.isfinite(found), found, np.nan)


def _long_lens(square: Float[ndarray, "rows 3"]) -> Float[ndarray, "rows 3 3"]:
    """A camera for rows whose set has none, looking at the middle of their square."""
    camera = np.tile(np.eye(3), (len(square), 1, 1))
    camera[:, 0, 0] = camera[:, 1, 1] = ASSUMED_FOCAL * square[:, 2]
    camera[:, :2, 2] = square[:, :2]
    return camera


def _standing(
    part: Part, meshes: Meshes, camera: ndarray, square: ndarray
) -> Float[ndarray, "rows 3"]:
    """Where bodies stand before an assumed camera so that their joints meet the labeled ones."""
    focal = camera[:, :1, 0]
    found = np.concatenate([np.zeros((len(part), 2)), focal * USUAL_HEIGHT / square[:, 2:]], axis=1)
    if part.keypoints_2d is None:
        return found
    for row in np.flatnonzero(every(np.isfinite(meshes.joints))):
        seen = part.keypoints_2d[row]
        sure = seen[:, 2] > 0
        if sure.sum() >= 4 and np.isfinite(square[row]).all():
            rays = (seen[sure, :2] - camera[row, :2, 2]) / camera[row, 0, 0]
            found[row] = _shift_onto(rays, meshes.joints[row, sure])
    return found


def _shift_onto(rays: ndarray, points: ndarray) -> Float[ndarray, "3"]:
    """The shift that brings points onto rays (x / z, y / z), least squares in the picture."""
    rows, wanted = [], []
    for axis in (0, 1):
        rows.append(np.column_stack([np.zeros((len(rays), 2)), -rays[:, axis]]))
        rows[-1][:, axis] = 1
        wanted.append(rays[:, axis] * points[:, 2] - points[:, axis])
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)[0]


def _known_joints(part: Part, meshes: Meshes, has_smpl: ndarray) -> Float[ndarray, "rows 14 4"]:
    """The labeled joints of a row that has some, else those of its mesh."""
    sure = np.broadcast_to(has_smpl[:, None, None], (len(part), len(EVALUATION_14), 1))
    found = np.concatenate([meshes.joints, sure.astype(np.float64)], axis=-1)
    if part.joints is None:
        return found
    labeled = ~every(part.joints[..., 3] <= 0)
    return np.where(labeled[:, None, None], part.joints, found)


def _about_hips(joints: ndarray) -> ndarray:
    middle = joints[:, list(EVALUATION_14.root), :3].mean(axis=1, keepdims=True)
    return np.concatenate([joints[..., :3] - middle, joints[..., 3:]], axis=-1)


def _finite(values: ndarray) -> ndarray:
    """Zeros in place of what is not known."""
    return np.where(np.isfinite(values), values, 0.0)


def _extrinsics(part: Part) -> Float[ndarray, "rows 3 4"]:
    if part.extrinsics is None:
        return np.full((len(part), 3, 4), np.nan)
    return part.extrinsics[:, :3]


def _reprojection(part: Part, meshes: Meshes, camera: ndarray) -> Float[ndarray, " rows"]:
    """Mean distance of projected joints from the set's own 2D joints, pixels of the picture."""
    if part.own_keypoints is not None:
        seen, names = part.own_keypoints
    elif part.keypoints_2d is not None:
        seen, names = part.keypoints_2d, EVALUATION_14.names
    else:
        return np.full(len(part), np.nan)
    ours, theirs = _shared(meshes, names)
    off = np.linalg.norm(_project(ours, camera) - seen[:, theirs, :2], axis=-1)
    sure = (seen[:, theirs, 2] > 0) & np.isfinite(off)
    count = sure.sum(axis=1)
    total = np.where(sure, off, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _own_joints(part: Part, meshes: Meshes) -> Float[ndarray, " rows"]:
    """Distance of the protocol's joints from the set's own ones after alignment, millimetres."""
    own, sure = part.own_joints, np.ones(len(part), dtype=bool)
    if own is None and part.joints is not None:
        own = (part.joints[..., :3], EVALUATION_14.names)
        sure = every(part.joints[..., 3] > 0)
    if own is None:
        return np.full(len(part), np.nan)
    theirs = [own[1].index(name) for name in EVALUATION_14.names if name in own[1]]
    ours = [k for k, name in enumerate(EVALUATION_14.names) if name in own[1]]
    pair = [torch.from_numpy(v) for v in (meshes.joints[:, ours], own[0][:, theirs])]
    return np.where(sure, MM_PER_METRE * pa_mpjpe(*pair).numpy(), np.nan)


def _shared(meshes: Meshes, names: tuple[str, ...]) -> tuple[ndarray, list[int]]:
    """Our joints that a set also has, and their places in it: skeleton against skeleton."""
    joint_set, ours = EVALUATION_14, meshes.joints
    if names == SMPL_24.names:
        joint_set, ours = SMPL_24, meshes.smpl
    shared = [name for name in joint_set.names if name in names]
    places = [names.index(name) for name in shared]
    return ours[:, list(joint_set.indices(tuple(shared)))], places
