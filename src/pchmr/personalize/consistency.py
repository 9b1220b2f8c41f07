"""What can be said of a personal model without truth: on held-out frames of the same clip.

How far its limbs lie, in the picture, from those that another network sees, one that made none of
the labels; how much its motion trembles; how much its bones change. Consistency, not accuracy:
a model that is wrong in a steady way scores well.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import nn

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.relabeled import resized
from pchmr.data.sample import PeopleDataset
from pchmr.geometry import project_weak_perspective
from pchmr.perception import load_keypoint_prior
from pchmr.perception.boxes import whole
from pchmr.perception.fetched import usual_prior
from pchmr.perception.interfaces import KeypointPrior
from pchmr.perception.people import LIMBS
from pchmr.predict.measures import steadiness_of

SIDE = 256  # of the crops that the other network looks at
EMBEDDED = "embedded"
LEAST_CONFIDENCE = 0.3
LEAST_FRAMES = 4  # of a motion


def independent_prior(labeled_with: str | None) -> KeypointPrior | None:
    """A network that sees keypoints and did not make the labels; None where there is no other."""
    usual = usual_prior()
    used = labeled_with or usual
    other = EMBEDDED if used != EMBEDDED else usual
    return load_keypoint_prior(other) if other != used else None


def seen_limbs(prior: KeypointPrior, people: PeopleDataset) -> Float[ndarray, "frames limbs 3"]:
    """Where a network sees the limbs of each crop: crop coordinates [-1, 1], then confidence."""
    rows = [list(prior.names).index(name) for name in LIMBS]
    found = []
    for at in range(len(people)):
        picture = people.batch([at]).images[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        seen = prior.keypoints(picture, whole(picture))[rows]
        places = 2 * seen[:, :2] / people.image_size - 1
        found.append(np.concatenate([places, seen[:, 2:]], axis=1))
    return np.array(found)


def consistency(
    model: nn.Module,
    body: BodyModel,
    people: PeopleDataset,
    image_size: int,
    times: Float[ndarray, " frames"] | None,
    seen: Float[ndarray, "frames limbs 3"] | None,
) -> dict[str, Any]:
    """Scores of a model on held-out crops; None where there is nothing to compare.

    Args:
        model: From crops to meshes.
        body: Whose.
        people: Crops of one person.
        image_size: Side of the crops that the model takes.
        times: Of the crops, where they are frames of one video.
        seen: See `seen_limbs`.
    """
    joints, places = _predicted(model, body, resized(people, image_size))
    moves = times is not None and len(times) >= LEAST_FRAMES
    steady = (
        steadiness_of(joints, EVALUATION_14.names, times) if moves and times is not None else None
    )
    return {
        "limbs_apart_percent": None if seen is None else _apart(places, seen),
        "jitter": steady.jitter if steady else None,
        "bone_variation_percent": steady.bone_variation if steady else None,
    }


@torch.no_grad()
def _predicted(
    model: nn.Module, body: BodyModel, people: PeopleDataset
) -> tuple[Float[ndarray, "frames 14 3"], Float[ndarray, "frames limbs 2"]]:
    """Evaluation joints in metres, and the limbs in crop coordinates."""
    rows, found = list(EVALUATION_14.indices(LIMBS)), []
    for at in range(len(people)):
        output = model(people.batch([at]).images.to(body.v_template.device))
        joints = body.regress(output.vertices, EVALUATION_14)
        found.append((joints[0], project_weak_perspective(joints[:, rows], output.camera)[0]))
    joints, places = (torch.stack(part).cpu().double().numpy() for part in zip(*found, strict=True))
    return joints, places


def _apart(
    places: Float[ndarray, "frames limbs 2"], seen: Float[ndarray, "frames limbs 3"]
) -> float | None:
    """Mean distance of limbs that are seen, percent of the longer side of the seen pose."""
    sure = seen[..., 2] >= LEAST_CONFIDENCE
    size = np.ptp(seen[..., :2], axis=1).max(axis=-1, keepdims=True)
    apart = np.linalg.norm(places - seen[..., :2], axis=-1) / size
    return 100 * float(apart[sure].mean()) if sure.any() else None
