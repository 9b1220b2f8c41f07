"""Scores of predictions that see no picture: T-pose, and mean pose of the training people."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.data.sample import PeopleDataset, RenewedPeople, Sample, Subset
from pchmr.evaluation import Scores, batches, score, truth_of

MEAN_OF = 2000


def t_pose(sample: Sample, body: BodyModel) -> Float[Tensor, "batch vertices 3"]:
    """The upright mean body with stretched arms facing the camera, whatever the picture shows."""
    upright = torch.zeros_like(sample.global_orient)
    upright[:, 0] = torch.pi  # y up to y down: half a turn about x
    zeros = torch.zeros_like
    return body(
        upright, zeros(sample.body_pose), zeros(sample.betas), zeros(sample.transl)
    ).vertices


@torch.no_grad()
def mean_mesh(body: BodyModel, dataset: PeopleDataset) -> Float[Tensor, "vertices 3"]:
    """The mean centered mesh of a data set: the best constant under squared error.

    Of people that are rendered when asked for, the first `MEAN_OF`.
    """
    if isinstance(dataset, RenewedPeople) and len(dataset) > MEAN_OF:
        dataset = Subset(dataset, np.arange(MEAN_OF))
    total = torch.zeros_like(body.v_template, dtype=torch.float64)
    count = 0
    for sample in batches(dataset, body.v_template.device):
        truth = truth_of(sample, body)
        total += truth.vertices[truth.has_vertices].double().sum(dim=0)
        count += int(truth.has_vertices.sum())
    return (total / max(count, 1)).to(body.v_template.dtype)


def _constant(mesh: Tensor, sample: Sample) -> Tensor:
    return mesh.expand(len(sample), -1, -1)


def baselines(
    body: BodyModel, train_set: PeopleDataset, test_set: PeopleDataset
) -> dict[str, Scores]:
    """Mean pose of the training people (a constant fitted on the domain) and the T-pose."""
    constant = mean_mesh(body, train_set)
    return {
        "mean_pose": score(partial(_constant, constant), body, test_set),
        "t_pose": score(partial(t_pose, body=body), body, test_set),
    }
