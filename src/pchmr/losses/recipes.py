"""The three recipes: named, weighted terms whose sum is minimized.

`paper=True` reproduces the published code; see `terms.py` for what differs in a term. One trap
stands here: beside an SMPL head, FastMETRO's code multiplies its base loss by 1e-8 in place of
freezing the network.
"""

import math
import sys
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.body import BodyModel, MeshHierarchy
from pchmr.body.joints import H36M_17, H36M_TO_EVALUATION
from pchmr.config import require
from pchmr.geometry import project_weak_perspective
from pchmr.losses.target import Prediction, Target, about_hips, pelvis_of
from pchmr.losses.terms import (
    edge_lengths,
    edge_loss,
    itp_loss,
    joint_loss,
    keypoint_loss,
    map_loss,
    normal_loss,
    over_samples,
    smpl_loss,
    vertex_loss,
)

Terms = dict[str, Tensor]
Joints = Float[Tensor, "batch 14 3"]

FROZEN_BASE = 1e-8
NO_FACES = (
    "pchmr: these mesh levels have no faces: FastMETRO's edge and normal terms are left out\n"
)
MID_LEVEL = 1
ITP_DELAY_EPOCHS = 3


def fastmetro(
    output: Prediction,
    target: Target,
    body: BodyModel,
    *,
    epoch: float = 0.0,
    paper: bool = False,
    surface: bool = False,
) -> Terms:
    """FastMETRO: joints, vertices, edges with normals, projections; SMPL terms with an SMPL head.

    Predicted vertices are centred on the pelvis regressed from them, joint tokens on their hips.
    """
    vertices, joints, pelvis = _regressed(output.vertices.float(), body)
    levels = [
        level.float() - pelvis for level in (output.vertices_coarse, output.vertices_mid, vertices)
    ]
    terms = {
        "joints": 1000 * _joint_terms(output, joints, target, paper),
        "vertices": 100 * _vertex_terms(levels, target, (0.25, 0.5, 0.25)),
        "keypoints": 100
        * _projection_terms(
            output.camera.float(), about_hips(output.joints.float()), joints - pelvis, target, paper
        ),
    }
    _require_unasked(surface, "fastmetro (which has such terms)")
    mid = _surface_terms(levels[1], target, body.hierarchy)
    if mid is not None:
        terms["surface"] = 100 * mid
    if output.rotmat is not None:
        if paper:
            terms = {name: FROZEN_BASE * value for name, value in terms.items()}
        terms["smpl"] = 1000 * _smpl_terms(output, target, body, paper)
    return terms


def tore(
    output: Prediction,
    target: Target,
    body: BodyModel,
    *,
    epoch: float = 0.0,
    paper: bool = False,
    surface: bool = False,
) -> Terms:
    """TORE: joints, vertices, projections, and the supervision of token pooling.

    Predictions are not centred before the vertex and projection terms: the network itself puts the
    pelvis at the origin. The pooling term fades in around the third epoch. `surface` adds the
    published code's optional normals and edges of the fine mesh. An SMPL head, which TORE does not
    have, learns as FastMETRO's.
    """
    _, joints, _ = _regressed(output.vertices.float(), body)
    levels = [x.float() for x in (output.vertices_coarse, output.vertices_mid, output.vertices)]
    camera = output.camera.float()
    terms = {
        "joints": 1000 * _joint_terms(output, joints, target, paper),
        "vertices": 100 * _vertex_terms(levels, target, (0.33, 0.33, 0.33)),
        "keypoints": 100 * _projection_terms(camera, output.joints.float(), joints, target, paper),
    }
    if output.token_heatmap is not None:
        mesh = project_weak_perspective(target.vertices, camera.detach())
        heatmap = output.token_heatmap.float()
        weight = 1e-3 / (1 + math.exp(ITP_DELAY_EPOCHS - epoch))
        terms["pooling"] = weight * itp_loss(heatmap, mesh, target.has_mesh, paper=paper)
    if surface:
        faces, fine = body.faces, output.vertices.float()
        edges = torch.cat([faces[:, [0, 1]], faces[:, [0, 2]], faces[:, [1, 2]]])
        truth, has = target.vertices, target.has_mesh
        terms["normals"] = 100 * normal_loss(fine, truth, faces, has)
        terms["edges"] = 1000 * edge_loss(fine, truth, edges, has, epsilon=1e-6)
    if output.rotmat is not None:
        terms["smpl"] = 1000 * _smpl_terms(output, target, body, paper)
    return terms


def xs(
    output: Prediction,
    target: Target,
    body: BodyModel,
    *,
    epoch: float = 0.0,
    paper: bool = False,
    surface: bool = False,
) -> Terms:
    """XS: plain L1 in metres and crop units, and the keypoint head's places and depths.

    Weights are small integers because a step of AdamW does not see the scale; what counts is the
    balance of metres (joints, vertices) against half crops (projections, keypoints).
    """
    vertices, joints, pelvis = _regressed(output.vertices.float(), body)
    coarse = output.vertices_coarse.float() - pelvis
    tokens = about_hips(output.joints.float())
    mesh = 0.5 * vertex_loss(coarse, target.vertices_coarse, target.has_mesh)
    mesh = mesh + 0.5 * vertex_loss(vertices - pelvis, target.vertices, target.has_mesh)
    terms = {
        "joints": 5 * _joint_terms(output, joints, target, paper),
        "vertices": 5 * mesh,
        "keypoints": 0.5
        * _projection_terms(output.camera.float(), tokens, about_hips(joints), target, paper),
    }
    if output.keypoints_2d is not None:
        assert output.keypoint_depth is not None and output.keypoint_maps is not None
        terms |= keypoints(output.keypoints_2d, output.keypoint_depth, output.keypoint_maps, target)
    if output.token_heatmap is not None:
        points = project_weak_perspective(target.vertices, output.camera.detach().float())
        heatmap = output.token_heatmap.float()
        terms["pooling"] = 1e-5 * itp_loss(heatmap, points, target.has_mesh, paper=paper)
    if output.rotmat is not None:
        terms["smpl"] = 5 * _smpl_terms(output, target, body, paper)
    _require_unasked(surface, "xs")
    return terms


def keypoints(
    places: Float[Tensor, "batch 14 2"],
    depths: Float[Tensor, "batch 14"],
    maps: Float[Tensor, "batch 14 rows columns"],
    target: Target,
) -> Terms:
    """XS's keypoint head, over joints inside the crop: heat maps, mean places, mean depths.

    The cross entropy of the maps is what ends the plateau; places and depths then sharpen.
    """
    seen = target.keypoint_weights * (target.keypoints_2d.abs() <= 1).all(dim=-1)
    seen = seen * target.has_keypoints[:, None]
    weights = seen * target.joint_weights
    error = (depths.float() - target.joints[..., 2]).abs() * weights
    return {
        "maps": 0.1 * map_loss(maps.float(), target.keypoints_2d, seen),
        "places": keypoint_loss(places.float(), target.keypoints_2d, seen, target.has_keypoints),
        "depths": error.sum() / weights.sum().clamp_min(1),
    }


def _require_unasked(surface: bool, recipe: str) -> None:
    require(
        not surface,
        f"--surface-terms is read by the loss tore only, not by {recipe}: leave it out or give "
        "--loss tore",
    )


LOSSES = {"fastmetro": fastmetro, "tore": tore, "xs": xs}


def _regressed(
    vertices: Float[Tensor, "batch fine 3"], body: BodyModel
) -> tuple[Float[Tensor, "batch fine 3"], Joints, Float[Tensor, "batch 1 3"]]:
    """The vertices, the evaluation joints regressed from them, and their pelvis."""
    regressed = body.regress(vertices, H36M_17)
    return vertices, regressed[:, list(H36M_TO_EVALUATION)], pelvis_of(regressed)


def _joint_terms(output: Prediction, joints: Joints, target: Target, paper: bool) -> Tensor:
    """L1 of the joint tokens plus L1 of the mesh's joints."""
    terms = [
        joint_loss(x, target.joints, target.joint_weights, target.has_joints, paper=paper)
        for x in (output.joints.float(), joints)
    ]
    return terms[0] + terms[1]


def _vertex_terms(
    levels: list[Tensor], target: Target, weights: tuple[float, float, float]
) -> Tensor:
    """Weighted L1 over coarse, mid and fine vertices."""
    truth = (target.vertices_coarse, target.vertices_mid, target.vertices)
    terms = [
        weight * vertex_loss(level, true, target.has_mesh)
        for weight, level, true in zip(weights, levels, truth, strict=True)
    ]
    return torch.stack(terms).sum()


def _projection_terms(
    camera: Float[Tensor, "batch 3"], tokens: Joints, joints: Joints, target: Target, paper: bool
) -> Tensor:
    """L1 of the projected joint tokens plus L1 of the projected joints of the mesh."""
    terms = [
        keypoint_loss(
            project_weak_perspective(points, camera),
            target.keypoints_2d,
            target.keypoint_weights,
            target.has_keypoints,
            paper=paper,
        )
        for points in (tokens, joints)
    ]
    return terms[0] + terms[1]


def _surface_terms(mid: Tensor, target: Target, hierarchy: MeshHierarchy) -> Tensor | None:
    """Edge lengths, their smallness, and normals on the middle level, where it has faces."""
    tables = mesh_tables(hierarchy, MID_LEVEL, mid.device)
    if tables is None:
        return None
    edges, faces = tables
    truth, has = target.vertices_mid, target.has_mesh
    short = over_samples(edge_lengths(mid, edges, 1e-8).mean(dim=1), has)
    normals = normal_loss(mid, truth, faces, has)
    return 5 * edge_loss(mid, truth, edges, has) + 1e-4 * short + 0.1 * normals


def _smpl_terms(output: Prediction, target: Target, body: BodyModel, paper: bool) -> Tensor:
    """Rotations, shape, and the body they make; no gradient reaches the camera."""
    assert output.rotmat is not None and output.betas is not None
    rotmat, betas = output.rotmat.float(), output.betas.float()
    vertices = body(rotmat[:, 0], rotmat[:, 1:], betas).vertices
    vertices, joints, pelvis = _regressed(vertices, body)
    camera = output.camera.detach().float()
    projected = project_weak_perspective(joints - pelvis, camera)
    has = target.has_joints
    return (
        smpl_loss(rotmat, betas, target.rotmat, target.betas, target.has_mesh)
        + joint_loss(joints, target.joints, target.joint_weights, has, paper=paper)
        + keypoint_loss(
            projected,
            target.keypoints_2d,
            target.keypoint_weights,
            target.has_keypoints,
            paper=paper,
        )
        + vertex_loss(vertices - pelvis, target.vertices, target.has_mesh)
    )


@lru_cache(maxsize=16)
def mesh_tables(
    hierarchy: MeshHierarchy, level: int, device: torch.device
) -> tuple[Int[Tensor, "edges 2"], Int[Tensor, "faces 3"]] | None:
    """Edges, each once, and faces of a mesh level; None, said once, where there are no faces."""
    if hierarchy.faces is None:
        sys.stderr.write(NO_FACES)
        return None
    faces = hierarchy.faces[level]
    pairs = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges = np.unique(np.sort(pairs, axis=1), axis=0)
    return torch.from_numpy(edges).to(device), torch.from_numpy(faces).to(device)
