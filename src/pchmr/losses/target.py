"""What losses compare: the truth of a batch, and what a prediction holds."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, H36M_17
from pchmr.data.sample import Sample, mesh_of
from pchmr.geometry import centered, rotvec_to_rotmat


@runtime_checkable
class Prediction(Protocol):
    """What a network returns; see `pchmr.models.HMROutput`."""

    camera: Tensor
    joints: Tensor
    vertices_coarse: Tensor
    vertices_mid: Tensor
    vertices: Tensor
    rotmat: Tensor | None
    betas: Tensor | None
    token_heatmap: Tensor | None
    keypoints_2d: Tensor | None
    keypoint_depth: Tensor | None
    keypoint_maps: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The truth of a batch, as losses use it; metres, camera axes.

    Attributes:
        vertices: Fine mesh about its regressed pelvis.
        vertices_mid: The middle level of the same mesh.
        vertices_coarse: The coarsest level.
        joints: Evaluation joints about the mean of their hips.
        joint_weights: Confidence of each joint; zero where the sample has no joints.
        keypoints_2d: Evaluation joints in crop coordinates.
        keypoint_weights: Confidence of each keypoint as labeled, whether the sample counts or not.
        rotmat: 24 rotations.
        betas: Shape.
        has_mesh: Whether vertices, rotations and shape are known.
        has_joints: Whether joints are known.
        has_keypoints: Whether keypoints are known.
    """

    vertices: Float[Tensor, "batch fine 3"]
    vertices_mid: Float[Tensor, "batch mid 3"]
    vertices_coarse: Float[Tensor, "batch coarse 3"]
    joints: Float[Tensor, "batch 14 3"]
    joint_weights: Float[Tensor, "batch 14"]
    keypoints_2d: Float[Tensor, "batch 14 2"]
    keypoint_weights: Float[Tensor, "batch 14"]
    rotmat: Float[Tensor, "batch 24 3 3"]
    betas: Float[Tensor, "batch 10"]
    has_mesh: Bool[Tensor, " batch"]
    has_joints: Bool[Tensor, " batch"]
    has_keypoints: Bool[Tensor, " batch"]


def targets(sample: Sample, body: BodyModel) -> Target:
    """The truth of a batch: its mesh on every level, its joints and keypoints, centred."""
    vertices = mesh_of(sample, body, placed=False)
    vertices = vertices - pelvis_of(body.regress(vertices, H36M_17))
    fine, mid, coarse = body.levels(vertices)
    rotvec = torch.cat([sample.global_orient[:, None], sample.body_pose], dim=1)
    return Target(
        vertices=fine,
        vertices_mid=mid,
        vertices_coarse=coarse,
        joints=about_hips(sample.joints[..., :3]),
        joint_weights=sample.joints[..., 3] * sample.has_joints[:, None],
        keypoints_2d=sample.keypoints_2d[..., :2],
        keypoint_weights=sample.keypoints_2d[..., 2],
        rotmat=rotvec_to_rotmat(rotvec),
        betas=sample.betas,
        has_mesh=sample.has_smpl,
        has_joints=sample.has_joints,
        has_keypoints=sample.has_keypoints_2d,
    )


def about_hips(joints: Float[Tensor, "batch 14 3"]) -> Float[Tensor, "batch 14 3"]:
    """Evaluation joints about the mean of their hips."""
    return centered(joints, EVALUATION_14.root)


def pelvis_of(joints: Float[Tensor, "batch 17 3"]) -> Float[Tensor, "batch 1 3"]:
    """The pelvis among regressed Human3.6M joints."""
    return joints[:, list(H36M_17.root)]
