"""Meshes and named joints of people by their parameters, a few frames at a time."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.predict.joints import named_joints
from pchmr.predict.people import Clip

FRAMES = 16  # posed at once


@torch.no_grad()
def posed(
    body: BodyModel,
    global_orient: Float[ndarray, "frames 3"],
    body_pose: Float[ndarray, "frames bones 3"],
    betas: Float[ndarray, " betas"],
    transl: Float[ndarray, "frames 3"],
) -> tuple[Float[ndarray, "frames vertices 3"], Float[ndarray, "frames joints 3"]]:
    """Mesh and joints (`joint_names`) of one person in some frames; NaN where parameters are."""
    like = body.v_template
    orient, pose, shift = (torch.as_tensor(a).to(like) for a in (global_orient, body_pose, transl))
    shape = torch.as_tensor(betas).to(like).expand(len(orient), -1)
    output = body(orient, pose, shape, shift)
    joints = named_joints(body, output.vertices, output.joints)
    return output.vertices.cpu().numpy(), joints.cpu().numpy()


def vertices_of(
    clip: Clip, body: BodyModel, rows: slice
) -> Float[ndarray, "frames people vertices 3"]:
    """Meshes of everybody in some frames, metres in the camera; NaN where they are not there."""
    there = clip.has_person[rows]
    out = np.full((*there.shape, body.num_vertices, 3), np.nan, dtype=np.float32)
    for person in range(there.shape[1]):
        seen = there[:, person]
        if seen.any():
            arrays = (clip.global_orient, clip.body_pose, clip.transl)
            orient, pose, transl = (a[rows, person][seen] for a in arrays)
            out[seen, person] = posed(body, orient, pose, clip.betas[person], transl)[0]
    return out


def blocks(num_frames: int, size: int = FRAMES) -> Iterator[slice]:
    """The frames of a clip, a few at a time."""
    for start in range(0, num_frames, size):
        yield slice(start, min(start + size, num_frames))
