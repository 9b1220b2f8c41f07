"""Scores of a model on people: MPJPE, PA-MPJPE, MPVPE in mm, and the baselines beside them.

Protocol (FastMETRO, METRO): 14 joints regressed from the fine mesh, both sides centred on the mean
of the hips; vertices centred on the regressed pelvis. A score without its truth is left out,
never printed as zero. Handed to training and federation as an argument, never imported by them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, H36M_17
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.metrics import MM_PER_METRE, MetricState, mpjpe, mpvpe, pa_mpjpe

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Errors in mm over a data set; None where the truth for a score is missing."""

    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None
    mpvpe_mm: float | None
    num_samples: int
    per_joint_mm: dict[str, float] = field(default_factory=dict)
    per_action_mm: dict[str, float] = field(default_factory=dict)
    acceleration_error_mm: float | None = None
    per_sample_mpjpe_mm: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def row(self) -> dict[str, float | None]:
        """The three scores by name."""
        return {
            "mpjpe_mm": self.mpjpe_mm,
            "pa_mpjpe_mm": self.pa_mpjpe_mm,
            "mpvpe_mm": self.mpvpe_mm,
        }


@dataclass(frozen=True)
class MeshTruth:
    """What predictions are held against: centred joints and vertices, and which rows have them."""

    joints: Float[Tensor, "batch 14 3"]
    vertices: Float[Tensor, "batch vertices 3"]
    has_joints: Tensor
    has_vertices: Tensor


Predict = Callable[[Sample], Float[Tensor, "batch vertices 3"]]


def centre_joints(joints: Float[Tensor, "*batch 14 3"]) -> Float[Tensor, "*batch 14 3"]:
    """Evaluation joints about the mean of their hips."""
    return joints - joints[..., list(EVALUATION_14.root), :].mean(dim=-2, keepdim=True)


def centre_vertices(
    body: BodyModel, vertices: Float[Tensor, "*batch vertices 3"]
) -> Float[Tensor, "*batch vertices 3"]:
    """Vertices about the pelvis regressed from them."""
    pelvis = body.regress(vertices, H36M_17)[..., list(H36M_17.root), :]
    return vertices - pelvis


def truth_of(sample: Sample, body: BodyModel) -> MeshTruth:
    """Truth of a batch: the mesh where the body is known, labelled joints otherwise."""
    vertices = body(sample.global_orient, sample.body_pose, sample.betas, sample.transl).vertices
    regressed = centre_joints(body.regress(vertices, EVALUATION_14))
    labelled = centre_joints(sample.joints[..., :3])
    joints = torch.where(sample.has_smpl[:, None, None], regressed, labelled)
    return MeshTruth(
        joints,
        centre_vertices(body, vertices),
        sample.has_smpl | sample.has_joints,
        sample.has_smpl,
    )


def batches(
    dataset: PeopleDataset, device: torch.device, batch_size: int = BATCH_SIZE
) -> Iterator[Sample]:
    """The whole data set in order."""
    for start in range(0, len(dataset), batch_size):
        rows = np.arange(start, min(start + batch_size, len(dataset)))
        yield dataset.batch(rows).to(device)


@torch.no_grad()
def score(
    predict: Predict, body: BodyModel, dataset: PeopleDataset, *, batch_size: int = BATCH_SIZE
) -> Scores:
    """Scores of any function from samples to meshes."""
    state, per_joint, samples = MetricState(), [], []
    device = body.v_template.device
    predicted_joints = []
    for sample in batches(dataset, device, batch_size):
        truth = truth_of(sample, body)
        vertices = predict(sample)
        joints = centre_joints(body.regress(vertices, EVALUATION_14))
        errors = (joints - truth.joints).norm(dim=-1)
        with_joints, with_mesh = truth.has_joints, truth.has_vertices
        centred = centre_vertices(body, vertices)
        state.add(
            {
                "mpjpe": mpjpe(joints, truth.joints)[with_joints],
                "pa_mpjpe": pa_mpjpe(joints[with_joints], truth.joints[with_joints]),
                "mpvpe": mpvpe(centred[with_mesh], truth.vertices[with_mesh]),
            }
        )
        per_joint.append(torch.where(with_joints[:, None], errors, torch.nan).cpu())
        predicted_joints.append(torch.stack([joints, truth.joints], dim=1).cpu())
        samples.append(sample.index.cpu())
    return _scores(state, torch.cat(per_joint), torch.cat(predicted_joints), dataset)


def _scores(
    state: MetricState,
    errors: Float[Tensor, "samples 14"],
    joints: Float[Tensor, "samples 2 14 3"],
    dataset: PeopleDataset,
) -> Scores:
    per_sample = errors.double().mean(dim=1).numpy() * MM_PER_METRE
    means = errors.double().nanmean(dim=0).tolist()
    values: dict[str, Any] = {"mpjpe_mm": None, "pa_mpjpe_mm": None, "mpvpe_mm": None}
    values.update(state.scores_mm())
    return Scores(
        **values,
        num_samples=len(dataset),
        per_joint_mm={n: m * MM_PER_METRE for n, m in zip(EVALUATION_14.names, means, strict=True)},
        per_action_mm=_by_label(per_sample, dataset.columns.get("action")),
        acceleration_error_mm=_acceleration_error_mm(joints, dataset),
        per_sample_mpjpe_mm=per_sample,
    )


def _by_label(values: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    if labels is None or not len(values):
        return {}
    return {str(label): float(np.nanmean(values[labels == label])) for label in np.unique(labels)}


def _acceleration_error_mm(
    joints: Float[Tensor, "samples 2 14 3"], dataset: PeopleDataset
) -> float | None:
    """Mean error of second differences of joints over runs of consecutive frames of a clip."""
    clips, frames = dataset.columns.get("clip"), dataset.columns.get("frame")
    if clips is None or frames is None or len(clips) < 3:
        return None
    order = np.lexsort((frames, clips))
    clips, frames, joints = clips[order], frames[order], joints[torch.from_numpy(order)]
    consecutive = (clips[2:] == clips[:-2]) & (frames[2:] - frames[:-2] == 2)
    if not consecutive.any():
        return None
    second = joints[2:] - 2 * joints[1:-1] + joints[:-2]
    error = (second[:, 0] - second[:, 1]).norm(dim=-1).mean(dim=-1)
    return float(error[torch.from_numpy(consecutive)].double().mean()) * MM_PER_METRE


def evaluate(
    model: torch.nn.Module,
    body: BodyModel,
    dataset: PeopleDataset,
    *,
    batch_size: int = BATCH_SIZE,
) -> Scores:
    """Scores of a model in evaluation mode; its training flag is put back afterwards."""
    training = model.training
    model.eval()
    try:
        return score(lambda sample: model(sample.images).vertices, body, dataset,
                     batch_size=batch_size)  # fmt: skip
    finally:
        model.train(training)


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
    """The mean centred mesh of a data set: the best constant under squared error."""
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
