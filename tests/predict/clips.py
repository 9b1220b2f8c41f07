"""A clip of two people who move smoothly; one leaves for a while."""

import numpy as np

from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.predict.joints import joint_names
from pchmr.predict.people import Clip
from pchmr.predict.posed import posed


def make_clip(body: BodyModel, num_frames: int = 12, fps: float = 25.0, people: int = 2) -> Clip:
    """Random smooth motion of everybody, in front of the camera."""
    rng = np.random.default_rng(0)
    times = np.arange(num_frames) / fps
    wave = np.sin(2 * np.pi * times[:, None, None, None] + rng.uniform(0, 6, (people, 23, 3)))
    pose = 0.5 * wave * rng.uniform(0, 1, (people, 23, 3))
    orient = np.tile([np.pi * 0.9, 0, 0.1], (num_frames, people, 1))
    orient[..., 1] = 0.3 * times[:, None]
    transl = np.tile([0.0, 0, 4], (num_frames, people, 1))
    transl[..., 0] = np.arange(people) - 0.5 + 0.2 * times[:, None]
    betas = rng.normal(0, 1, (people, body.num_betas))
    there = np.ones((num_frames, people), dtype=bool)
    if people > 1:
        there[4:8, 1] = False
    for values in (pose, orient, transl):
        values[~there] = np.nan
    names = joint_names(body)
    joints = np.full((num_frames, people, len(names), 3), np.nan)
    for person in range(people):
        arrays = (orient[:, person], pose[:, person], betas[person], transl[:, person])
        joints[:, person] = posed(body, *arrays)[1]
    intrinsics = np.array([[200.0, 0, 80], [0, 200.0, 60], [0, 0, 1]])
    seen = joints[:, :, : len(COCO_17)] @ intrinsics.T
    pixels = np.concatenate(
        [seen[..., :2] / seen[..., 2:], there[..., None, None] * np.ones_like(seen[..., :1])],
        axis=-1,
    )
    return Clip(
        joints=joints,
        joint_names=names,
        global_orient=orient,
        body_pose=pose,
        betas=betas,
        transl=transl,
        intrinsics=intrinsics,
        keypoints_2d=pixels,
        keypoint_names=COCO_17.names,
        track_id=np.arange(1, people + 1),
        bbox_xyxy=np.concatenate(
            [pixels[..., :2].min(axis=2), pixels[..., :2].max(axis=2)], axis=-1
        ),
        time_seconds=times,
        has_person=there,
    )
