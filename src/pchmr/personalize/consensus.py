"""Labels of the annotator and of the network that knows the setting: the mean, by how sure each is.

The annotator predicts its error; the network's is known from other people in the same setting, whom
it has never seen either. The two err apart, as one fits keypoints and the other remembers people,
so the mean of their meshes is nearer the truth than the surer one. What the network says of one
clip is averaged over neighboring moments, and all its labels get one shape, as they show one
person. The truth of a user is not read.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.body.fit import fit_body
from pchmr.body.joints import EVALUATION_14
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.recipe import FRAMES_PER_SECOND
from pchmr.personalize.users import REJECTED, REVIEW

SMOOTH_SECONDS = 0.1  # standard deviation of the weights of neighboring moments
FIT_STEPS = 6  # of the body to a predicted mesh
LONG_LENS = 20.0  # focal length in sides of the crop: the network's camera knows no perspective
BATCH_SIZE = 32
POSED = ("global_orient", "body_pose", "betas", "transl")
CHANGED = (*POSED, "intrinsics")


def consensus(
    body: BodyModel,
    network: nn.Module,
    people: PeopleDataset,
    labels: Mapping[str, ndarray],
    network_mm: float,
    side: int,
) -> dict[str, ndarray]:
    """Labels of which none is less sure than the network, and none rejected.

    A rejected label gives way to the network; the others stay where the annotator saw them in the
    picture, and become the mean of both meshes with the inverse squared errors as weights.

    Args:
        body: Of the labels.
        network: Knows the setting.
        people: The labeled pictures, at the network's size.
        labels: Arrays of the annotator.
        network_mm: Error of the network on others in the setting.
        side: Of the pictures that were labeled, pixels.
    """
    predicted = np.asarray(labels["predicted_error_mm"], dtype=float)
    alone = ~np.isfinite(predicted) | (np.asarray(labels["status"]) == REJECTED)
    own = network_labels(body, network, people, side)
    found = {name: np.array(values) for name, values in labels.items()}
    for name in CHANGED:
        found[name][alone] = own[name][alone]
    if not alone.all():
        share = network_mm**2 / (network_mm**2 + predicted[~alone] ** 2)
        one, other = ({name: part[name][~alone] for name in POSED} for part in (labels, own))
        for name, values in _mean(body, one, other, torch.from_numpy(share).float()).items():
            found[name][~alone] = values
    sure = np.where(alone, network_mm, np.fmin(predicted, network_mm))
    found["predicted_error_mm"] = sure.astype(np.float32)
    found["status"] = np.where(alone, REVIEW, found["status"])
    return found


@torch.no_grad()
def _mean(
    body: BodyModel,
    one: Mapping[str, ndarray],
    other: Mapping[str, ndarray],
    share: Float[Tensor, " rows"],
) -> dict[str, ndarray]:
    """Parameters of the mean of two meshes about their pelvis, placed as the first; one shape."""
    device = body.v_template.device
    meshes, roots = [], []
    for part in (one, other):
        values = [torch.from_numpy(np.asarray(part[n])).float().to(device) for n in POSED]
        posed = body(*values)
        joints = body.regress(posed.vertices, EVALUATION_14)
        roots.append(joints[:, EVALUATION_14.root].mean(dim=1))
        meshes.append(posed.vertices - roots[-1][:, None])
    weight = share.to(device)[:, None, None]
    mixed = weight * meshes[0] + (1 - weight) * meshes[1]
    fit = [fit_body(body, part, max_steps=FIT_STEPS) for part in mixed.split(BATCH_SIZE)]
    betas = torch.cat([part.betas for part in fit])
    found = {
        "global_orient": torch.cat([part.global_orient for part in fit]),
        "body_pose": torch.cat([part.body_pose for part in fit]),
        "betas": betas.median(dim=0).values.expand_as(betas),
        "transl": torch.cat([part.transl for part in fit]) + roots[0],
    }
    return {name: value.cpu().numpy() for name, value in found.items()}


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
