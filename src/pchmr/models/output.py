"""What a network says about a batch of crops."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class HMROutput(NamedTuple):
    """Camera, joints and mesh of each crop; metres, camera axes, origin as the network chose it.

    Attributes:
        camera: Weak perspective (s, tx, ty): crop coordinates are s * (xy + t).
        joints: Evaluation joints from the joint tokens.
        vertices_coarse: Vertices of the coarsest mesh level.
        vertices_mid: Vertices of the middle level.
        vertices: Vertices of the body.
        rotmat: Rotations of the 24 SMPL joints, with an SMPL head.
        betas: Shape coefficients, with an SMPL head.
        token_heatmap: Where TORE's pooled tokens look, one distribution over the grid a token.
        keypoints_2d: Evaluation joints in crop coordinates from the keypoint head, in training.
        keypoint_depth: Their depth behind the root in metres from the keypoint head, in training.
        keypoint_maps: Logits of the keypoint head over the cells of its map, in training.
    """

    camera: Float[Tensor, "batch 3"]
    joints: Float[Tensor, "batch 14 3"]
    vertices_coarse: Float[Tensor, "batch coarse 3"]
    vertices_mid: Float[Tensor, "batch mid 3"]
    vertices: Float[Tensor, "batch fine 3"]
    rotmat: Float[Tensor, "batch 24 3 3"] | None = None
    betas: Float[Tensor, "batch 10"] | None = None
    token_heatmap: Float[Tensor, "batch tokens cells"] | None = None
    keypoints_2d: Float[Tensor, "batch 14 2"] | None = None
    keypoint_depth: Float[Tensor, "batch 14"] | None = None
    keypoint_maps: Float[Tensor, "batch 14 rows columns"] | None = None
