"""People that the annotator does not know: dressed more thickly, or of another body altogether.

`draw_strangers` takes Anny itself, with its own 104 bones and skinning, any of its shapes, and
poses drawn joint by joint without any activity. It needs the `build` extra.
"""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import KDTree

from pchmr.bench.annotators.oracle import PICTURE_SIDE, People
from pchmr.body import BodyModel
from pchmr.body.anny_source import pose_people, sample_people
from pchmr.data.synthetic.kinematics import forward_kinematics
from pchmr.data.synthetic.normals import vertex_normals
from pchmr.data.synthetic.poses import LIMITS, clamp, compose, neutral, rotation
from pchmr.seeds import derive_seed

NUM_MATCHED = 400
MATCH_METRES = 0.003
SPREAD = 0.2  # of an angle's range, standard deviation about standing
FOV, FRAMING, PITCH_SD = (35.0, 75.0), (0.5, 0.85), 12.0


def dress(body: BodyModel, people: People, metres: float) -> People:
    """The same people in clothes of even thickness; only depth sees clothes."""
    normals = vertex_normals(people.vertices, body.faces)
    return replace(people, surface=people.vertices + metres * normals)


def draw_strangers(body: BodyModel, count: int, *, seed: int = 0) -> People:
    """Anny's people before their own cameras; they have no parameters of ours (zeros).

    The embedded body's vertices are some of Anny's, so meshes are compared vertex by vertex.

    Raises:
        ImportError: Anny is not installed.
    """
    rng = np.random.default_rng(derive_seed(seed, "strangers"))
    angles = neutral(count)
    for name, (low, high) in LIMITS.items():
        angles[name] = angles[name] + SPREAD * (high - low) * rng.standard_normal(
            angles[name].shape
        )
    clamp(angles)
    local = compose(angles)
    world, _ = forward_kinematics(local, np.zeros((count, 24, 3)), body.parents)
    rows = own_vertices(body)
    vertices = pose_people(world, derive_seed(seed, "shapes") % 2**31)[:, rows]
    vertices, cameras = _photographed(vertices, rng)
    return People(
        rotmat=torch.from_numpy(local).float(),
        betas=torch.zeros(count, 10),
        transl=torch.zeros(count, 3),
        vertices=torch.from_numpy(vertices).float(),
        surface=torch.from_numpy(vertices).float(),
        intrinsics=torch.from_numpy(cameras).float(),
        image_size=np.full((count, 2), PICTURE_SIDE),
        action=np.full(count, "any"),
    )


def own_vertices(body: BodyModel) -> np.ndarray:
    """For each vertex of the embedded body the vertex of Anny that it is."""
    mean = sample_people(NUM_MATCHED, 0).vertices.mean(axis=0)
    distance, rows = KDTree(mean).query(body.v_template.numpy())
    rows = np.asarray(rows)
    assert np.max(distance) < MATCH_METRES and len(np.unique(rows)) == len(rows)
    return rows


def _photographed(vertices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in the frames of cameras around them, and the cameras."""
    count = len(vertices)
    turn = rotation("x", rng.normal(0, PITCH_SD, count)) @ np.diag([1.0, -1.0, -1.0])
    turn = turn @ rotation("y", rng.uniform(-180, 180, count))
    middle = (vertices.min(axis=1) + vertices.max(axis=1)) / 2
    seen = np.einsum("nij,nvj->nvi", turn, vertices - middle[:, None])
    slope = np.tan(np.deg2rad(rng.uniform(*FOV, count)) / 2)
    extent = (seen.max(axis=1) - seen.min(axis=1))[:, :2].max(axis=-1)
    distance = extent / (2 * rng.uniform(*FRAMING, count) * slope) + 0.3
    seen[..., 2] += distance[:, None]
    cameras = np.zeros((count, 3, 3))
    cameras[:, [0, 1], [0, 1]] = (PICTURE_SIDE / 2 / slope)[:, None]
    cameras[:, :2, 2], cameras[:, 2, 2] = PICTURE_SIDE / 2, 1
    return seen, cameras
