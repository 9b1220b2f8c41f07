"""Labels of the annotator and of the network that knows the setting: in each frame the surer one.

The annotator predicts its error; the network's is known from other people in the same setting, whom
it has never seen either. What the network says of one clip is averaged over neighboring moments,
and all its labels get one shape, as they show one person. The truth of a user is not read.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.body.fit import fit_body
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.recipe import FRAMES_PER_SECOND
from pchmr.personalize.users import REJECTED, REVIEW

SMOOTH_SECONDS = 0.1  # standard deviation of the weights of neighboring moments
FIT_STEPS = 6  # of the body to a predicted mesh
LONG_LENS = 20.0  # focal length in sides of the crop: the network's camera knows no perspective
BATCH_SIZE = 32
CHANGED = ("global_orient", "body_pose", "betas", "transl", "intrinsics")


def consensus(
    body: BodyModel,
    network: nn.Module,
    people: PeopleDataset,
    labels: Mapping[str, ndarray],
    network_mm: float,
    side: int,
) -> dict[str, ndarray]:
    """Labels of which none is less sure than the network, and none rejected.

    Args:
        body: Of the labels.
        network: Knows the setting.
        people: The labeled pictures, at the network's size.
        labels: Arrays of the annotator.
        network_mm: Error of the network on others in the setting.
        side: Of the pictures that were labeled, pixels.
    """
    predicted = np.asarray(labels["predicted_error_mm"], dtype=float)
    surer = ~(predicted < network_mm) | (np.asarray(labels["status"]) == REJECTED)
    own = network_labels(body, network, people, side)
    found = {name: np.array(values) for name, values in labels.items()}
    for name in CHANGED:
        found[name][surer] = own[name][surer]
    found["predicted_error_mm"] = np.where(surer, network_mm, predicted).astype(np.float32)
    found["status"] = np.where(surer, REVIEW, found["status"])
    return found


@torch.no_grad()
def network_labels(
    body: BodyModel, network: nn.Module, people: PeopleDataset, side: int
) -> dict[str, ndarray]:
    """What a network says of frames of one person, as parameters of the body."""
    meshes, cameras = [], []
    for rows in np.split(np.arange(len(people)), range(BATCH_SIZE, len(people), BATCH_SIZE)):
        output = network(people.batch(rows).images.to(body.v_template.device))
        meshes.append(output.vertices.float())
        cameras.append(output.camera.float())
    near = neighbors(people.columns["clip"], people.columns["frame"] / FRAMES_PER_SECOND)
    vertices, camera = torch.cat(meshes), torch.cat(cameras)
    vertices = torch.einsum("ij,jvx->ivx", near.to(vertices), vertices)
    fit = [fit_body(body, part, max_steps=FIT_STEPS) for part in vertices.split(BATCH_SIZE)]
    betas = torch.cat([part.betas for part in fit]).median(dim=0).values
    scale, shift = camera[:, :1].clamp_min(1e-3), camera[:, 1:]
    depth = 2 * LONG_LENS / scale
    found = {
        "global_orient": torch.cat([part.global_orient for part in fit]),
        "body_pose": torch.cat([part.body_pose for part in fit]),
        "betas": betas.expand(len(camera), -1),
        "transl": torch.cat([part.transl for part in fit]) + torch.cat([shift, depth], dim=1),
        "intrinsics": _long_lens(side).expand(len(camera), 3, 3),
    }
    return {name: value.cpu().numpy() for name, value in found.items()}


def _long_lens(side: int) -> Float[Tensor, "3 3"]:
    focal = LONG_LENS * side
    return torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])


def neighbors(clip: ndarray, seconds: Float[ndarray, " frames"]) -> Float[Tensor, "frames frames"]:
    """Weights of all frames in the mean of each: those of its clip, the nearer the more."""
    apart = seconds[:, None] - seconds
    weight = np.exp(-0.5 * np.square(apart / SMOOTH_SECONDS)) * (clip[:, None] == clip)
    return torch.from_numpy(weight / weight.sum(axis=1, keepdims=True))
