"""The people of a picture and of a clip, as `predict` writes them; knows no network and no file."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


@dataclass(frozen=True, kw_only=True)
class People:
    """Everybody in one upright picture; metres in its camera (x right, y down, z away), pixels.

    Attributes:
        vertices: Meshes where the people stand, so that `vertices @ intrinsics.T` gives pixels.
        joints: Named by `joint_names`, in the same frame.
        joint_names: COCO-17 names are among them.
        global_orient: Axis-angle of the root.
        body_pose: Axis-angle of the other joints.
        betas: Shape coefficients.
        transl: SMPL's translation of the body.
        intrinsics: Of the whole picture.
        keypoints_2d: What was seen: pixels and confidence in [0, 1]; confidence 0 is unseen.
        keypoint_names: Of these points.
        track_id: Number of each person, which lives within one picture or clip.
        bbox_xyxy: Around each person, pixels.
        score: How well network, fit, mirror image and silhouette agree, in [0, 1]; it ranks people
            and promises no millimetres. None where nothing was fitted.
        predicted_error_mm: Expected mean error of the joints, as labels have it; NaN where nothing
            predicts it. None where nothing was fitted.
        status: "accepted", "review" or "rejected", by the words of `annotate.judging`. None where
            nothing was fitted.
        reason: Why a person is not accepted; empty where they are.
    """

    vertices: Float[np.ndarray, "people vertices 3"]
    joints: Float[np.ndarray, "people joints 3"]
    joint_names: tuple[str, ...]
    global_orient: Float[np.ndarray, "people 3"]
    body_pose: Float[np.ndarray, "people bones 3"]
    betas: Float[np.ndarray, "people betas"]
    transl: Float[np.ndarray, "people 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    keypoints_2d: Float[np.ndarray, "people keypoints 3"]
    keypoint_names: tuple[str, ...]
    track_id: Int[np.ndarray, " people"]
    bbox_xyxy: Float[np.ndarray, "people 4"]
    score: Float[np.ndarray, " people"] | None = None
    predicted_error_mm: Float[np.ndarray, " people"] | None = None
    status: Shaped[np.ndarray, " people"] | None = None
    reason: Shaped[np.ndarray, " people"] | None = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Everybody in the frames of a clip: the arrays of `People` behind an axis of frames.

    NaN where a person is not there. The shape is one for all frames of a person. Meshes are not
    kept: the parameters give them, a few frames at a time.

    Attributes:
        time_seconds: Of each frame, from its time stamp.
        has_person: Where each person is there.
    """

    joints: Float[np.ndarray, "frames people joints 3"]
    joint_names: tuple[str, ...]
    global_orient: Float[np.ndarray, "frames people 3"]
    body_pose: Float[np.ndarray, "frames people bones 3"]
    betas: Float[np.ndarray, "people betas"]
    transl: Float[np.ndarray, "frames people 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    keypoints_2d: Float[np.ndarray, "frames people keypoints 3"]
    keypoint_names: tuple[str, ...]
    track_id: Int[np.ndarray, " people"]
    bbox_xyxy: Float[np.ndarray, "frames people 4"]
    time_seconds: Float[np.ndarray, " frames"]
    has_person: Bool[np.ndarray, "frames people"]


def as_clip(people: People) -> Clip:
    """A picture as a clip of one frame."""
    in_time = ("joints", "global_orient", "body_pose", "transl", "keypoints_2d", "bbox_xyxy")
    once = ("joint_names", "betas", "intrinsics", "keypoint_names", "track_id")
    return Clip(
        time_seconds=np.zeros(1),
        has_person=np.ones((1, len(people.track_id)), dtype=bool),
        **{name: getattr(people, name)[None] for name in in_time},
        **{name: getattr(people, name) for name in once},
    )
