"""Scores of a model on people: MPJPE, PA-MPJPE, MPVPE in mm, and the baselines beside them.

Protocol (FastMETRO, METRO): 14 joints regressed from the fine mesh, both sides centered on the mean
of the hips; vertices centered on the regressed pelvis. A score without its truth is left out,
never printed as zero. Handed to training and federation as an argument, never imported by them.

The papers score 3DPW against meshes of the neutral body although its labels carry a gender. Here
the body that labels were made with makes the truth: `Sample.gender` tells. `Judged` people say
which joints count as true: those of the true mesh, those of the labels as in the papers, or these
with the published averaging, traps included.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, H36M_17, JointSet
from pchmr.data.sample import PeopleDataset, Sample, mesh_of
from pchmr.evaluation.protocols import JointTruth, Judged, by_protocol, protocol_2
from pchmr.geometry import centered
from pchmr.metrics import MM_PER_METRE, SCORES, means, mpvpe, pa_mpjpe, paper_means

__all__ = [
    "MeshTruth",
    "Scores",
    "batches",
    "by_protocol",
    "center_vertices",
    "evaluate",
    "people_mm",
    "protocol_2",
    "score",
    "truth_of",
]

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Errors in mm over a data set; None where the truth for a score is missing.

    A score is NaN where one of its predictions is not finite; `num_nonfinite` counts these.
    """

    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None
    mpvpe_mm: float | None
    num_samples: int
    num_nonfinite: int = 0
    per_joint_mm: dict[str, float] = field(default_factory=dict)
    per_action_mm: dict[str, float] = field(default_factory=dict)
    per_sequence_mm: dict[str, float] = field(default_factory=dict)
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
    """What predictions are held against: centered joints and vertices, and which rows have them."""

    joints: Float[Tensor, "batch joints 3"]
    vertices: Float[Tensor, "batch vertices 3"]
    has_joints: Tensor
    has_vertices: Tensor


def people_mm(scores: Scores, subjects: np.ndarray) -> tuple[float, ...]:
    """Mean MPJPE over each person's images, by the order of their names; empty if one has none.

    Args:
        scores: Of a data set.
        subjects: Name of the person in each of its rows.
    """
    names, codes = np.unique(subjects, return_inverse=True)
    if len(scores.per_sample_mpjpe_mm) != len(codes):
        return ()
    sums = np.bincount(codes, scores.per_sample_mpjpe_mm, minlength=len(names))
    means = np.round(sums / np.bincount(codes), 2)
    return tuple(means.tolist()) if np.isfinite(means).all() else ()


Predict = Callable[[Sample], Float[Tensor, "batch vertices 3"]]


def center_vertices(
    body: BodyModel, vertices: Float[Tensor, "*batch vertices 3"]
) -> Float[Tensor, "*batch vertices 3"]:
    """Vertices about the pelvis regressed from them."""
    pelvis = body.regress(vertices, H36M_17)[..., list(H36M_17.root), :]
    return vertices - pelvis


def truth_of(
    sample: Sample,
    body: BodyModel,
    *,
    joint_truth: JointTruth = "mesh",
    joint_set: JointSet = EVALUATION_14,
) -> MeshTruth:
    """Truth of a batch.

    Args:
        sample: People with labels.
        body: Makes the meshes, and regresses joints.
        joint_truth: Which joints are true.
        joint_set: Which joints count; labels hold the evaluation joints only.
    """
    vertices = mesh_of(sample, body)
    regressed = centered(body.regress(vertices, joint_set), joint_set.root)
    if joint_set is not EVALUATION_14:
        about = center_vertices(body, vertices)
        return MeshTruth(regressed, about, sample.has_smpl, sample.has_smpl)
    labelled = centered(sample.joints[..., :3], EVALUATION_14.root)
    from_mesh = sample.has_smpl if joint_truth == "mesh" else ~sample.has_joints
    if joint_truth == "paper":
        from_mesh = torch.zeros_like(from_mesh)
    return MeshTruth(
        torch.where(from_mesh[:, None, None], regressed, labelled),
        center_vertices(body, vertices),
        sample.has_joints if joint_truth == "paper" else sample.has_smpl | sample.has_joints,
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
    predict: Predict,
    body: BodyModel,
    dataset: PeopleDataset,
    *,
    batch_size: int = BATCH_SIZE,
) -> Scores:
    """Scores of any function from samples to meshes.

    Args:
        predict: The function.
        body: Regresses joints of predictions; makes the truth.
        dataset: People to score on; `Judged` ones decide which joints are true, and how the three
            scores are averaged.
        batch_size: People at a time; does not change the scores.

    Raises:
        BodyFileError: The labels are of a gender whose body is not at hand.
    """
    device = body.v_template.device
    judged = dataset if isinstance(dataset, Judged) else Judged(dataset, np.arange(len(dataset)))
    joint_truth, joint_set = judged.joint_truth, judged.joint_set
    found = []
    for sample in batches(dataset, device, batch_size):
        truth = truth_of(sample, body, joint_truth=joint_truth, joint_set=joint_set)
        vertices = predict(sample)
        joints = centered(body.regress(vertices, joint_set), joint_set.root)
        aligned = truth.has_joints | (joint_truth == "paper")
        by_joint = (joints - truth.joints).norm(dim=-1)
        after = torch.zeros_like(by_joint[:, 0])
        after[aligned] = pa_mpjpe(joints[aligned], truth.joints[aligned])
        off = mpvpe(center_vertices(body, vertices), truth.vertices)
        values = torch.stack([by_joint.mean(dim=-1), after, off])
        known = torch.stack([truth.has_joints, aligned, truth.has_vertices])
        pairs = torch.stack([joints, truth.joints], dim=1)
        found.append([part.cpu() for part in (values.T, known.T, by_joint, pairs)])
    values, known, by_joint, pairs = map(torch.cat, zip(*found, strict=True))
    average = paper_means if joint_truth == "paper" else means
    return _scores(average(values, known), known[:, 0].numpy(), by_joint, pairs, judged)


def _scores(
    averages: Mapping[str, float],
    known: np.ndarray,
    errors: Float[Tensor, "samples joints"],
    joints: Float[Tensor, "samples 2 joints 3"],
    dataset: Judged,
) -> Scores:
    """The averages, and the errors of joints in metres in detail over the known samples."""
    per_sample = errors.double().mean(dim=1).numpy() * MM_PER_METRE
    per_sample[~known] = np.nan
    values = dict.fromkeys((f"{name}_mm" for name in SCORES), None) | dict(averages)
    centers = errors[known].double().mean(dim=0).tolist() if known.any() else []
    by_joint = zip(dataset.joint_set.names[: len(centers)], centers, strict=True)
    predicted = joints.select(1, 0)
    return Scores(
        **values,
        num_samples=len(dataset),
        num_nonfinite=int((~torch.isfinite(predicted)).flatten(start_dim=1).any(dim=1).sum()),
        per_joint_mm={name: mean * MM_PER_METRE for name, mean in by_joint},
        per_action_mm=_by_label(per_sample, dataset.columns.get("action"), known),
        per_sequence_mm=_by_label(per_sample, dataset.columns.get("sequence"), known),
        acceleration_error_mm=_acceleration_error_mm(joints, dataset, known),
        per_sample_mpjpe_mm=per_sample,
    )


def _by_label(values: np.ndarray, labels: np.ndarray | None, known: np.ndarray) -> dict[str, float]:
    """Means by label over the rows whose value is known; a label without any is left out."""
    if labels is None:
        return {}
    labels, values = labels[known], values[known]
    return {str(label): float(values[labels == label].mean()) for label in np.unique(labels)}


def _acceleration_error_mm(
    joints: Float[Tensor, "samples 2 joints 3"], dataset: PeopleDataset, known: np.ndarray
) -> float | None:
    """Mean error of second differences of joints over three frames in a row of a clip."""
    clips, frames = dataset.columns.get("clip"), dataset.columns.get("frame")
    if clips is None or frames is None or len(clips) < 3:
        return None
    order = np.lexsort((frames, clips))
    clips, frames, joints = clips[order], frames[order], joints[torch.from_numpy(order)]
    consecutive = (clips[2:] == clips[:-2]) & (frames[2:] - frames[:-2] == 2)
    for shift in range(3):
        consecutive &= known[order][shift : len(order) - 2 + shift]
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
    bf16: bool = False,
) -> Scores:
    """Scores of a model in evaluation mode; its training flag is put back afterwards.

    `bf16` runs the network in automatic mixed precision.
    """
    device = body.v_template.device.type

    def predict(sample: Sample) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return model(sample.images).vertices.float()

    training = model.training
    model.eval()
    try:
        return score(predict, body, dataset, batch_size=batch_size)
    finally:
        model.train(training)
