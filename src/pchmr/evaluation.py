"""Scores of a model on people: MPJPE, PA-MPJPE, MPVPE in mm, and the baselines beside them.

Protocol (FastMETRO, METRO): 14 joints regressed from the fine mesh, both sides centered on the mean
of the hips; vertices centered on the regressed pelvis. A score without its truth is left out,
never printed as zero. Handed to training and federation as an argument, never imported by them.

The papers score 3DPW against meshes of the neutral body although its labels carry a gender; without
`bodies` that is done here too, with them each person's own body makes the truth. `Judged` people
say which joints count as true: those of the true mesh, those of the labels as in the papers, or
these with the published averaging, traps included.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.files import gender_name
from pchmr.body.joints import EVALUATION_14, H36M_17
from pchmr.config import SettingError, require
from pchmr.data.sample import PeopleDataset, RenewedPeople, Sample, Subset
from pchmr.geometry import centered
from pchmr.metrics import MM_PER_METRE, SCORES, means, mpvpe, pa_mpjpe, paper_means

BATCH_SIZE = 64
MEAN_OF = 2000
PROTOCOL_2_SUBJECTS, FRONTAL_CAMERA = ("S9", "S11"), "60457274"

JointTruth = Literal["mesh", "labels", "paper"]
"""`mesh`: joints regressed from the true mesh, labels where there is none. `labels`: labeled joints
where there are any. `paper`: only those, averaged as the published code does (`paper_means`)."""


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

    joints: Float[Tensor, "batch 14 3"]
    vertices: Float[Tensor, "batch vertices 3"]
    has_joints: Tensor
    has_vertices: Tensor


@dataclass(frozen=True)
class Judged(Subset):
    """People, and which of their joints scores take for true."""

    joint_truth: JointTruth = "mesh"

    @property
    def content_hash(self) -> str:
        """That of the people: they are all there."""
        return self.dataset.content_hash


def by_protocol(
    people: PeopleDataset,
    protocol: Literal["all", "h36m-p2"],
    joint_truth: Literal["labels", "paper"] | None,
) -> PeopleDataset:
    """The held-out people as an evaluation is asked to score them; joints of the mesh by default.

    Raises:
        SettingError: The people hold none that the protocol or the truth wants.
    """
    if protocol == "h36m-p2":
        people = protocol_2(people)
    if joint_truth is None:
        return people
    return Judged(people, np.arange(len(people)), joint_truth)


Predict = Callable[[Sample], Float[Tensor, "batch vertices 3"]]


def center_vertices(
    body: BodyModel, vertices: Float[Tensor, "*batch vertices 3"]
) -> Float[Tensor, "*batch vertices 3"]:
    """Vertices about the pelvis regressed from them."""
    pelvis = body.regress(vertices, H36M_17)[..., list(H36M_17.root), :]
    return vertices - pelvis


def mesh_of(sample: Sample, body: BodyModel) -> Float[Tensor, "batch vertices 3"]:
    """Vertices that labels give on a body, camera frame."""
    return body(sample.global_orient, sample.body_pose, sample.betas, sample.transl).vertices


def truth_of(
    sample: Sample,
    body: BodyModel,
    bodies: Mapping[str, BodyModel] | None = None,
    genders: np.ndarray | None = None,
    *,
    joint_truth: JointTruth = "mesh",
) -> MeshTruth:
    """Truth of a batch.

    Args:
        sample: People with labels.
        body: Makes the meshes, and regresses joints.
        bodies: Makes the meshes instead, by gender.
        genders: Gender of each person, for `bodies`.
        joint_truth: Which joints are true.
    """
    vertices = mesh_of(sample, body)
    if bodies is not None:
        assert genders is not None
        for gender in np.unique(genders):
            same = torch.from_numpy(genders == gender).to(vertices.device)
            own = mesh_of(sample, bodies[str(gender)])
            vertices = torch.where(same[:, None, None], own, vertices)
    regressed = centered(body.regress(vertices, EVALUATION_14), EVALUATION_14.root)
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
    bodies: Mapping[str, BodyModel] | None = None,
) -> Scores:
    """Scores of any function from samples to meshes.

    Args:
        predict: The function.
        body: Regresses joints of predictions; makes the truth.
        dataset: People to score on; `Judged` ones decide which joints are true, and how the three
            scores are averaged.
        batch_size: People at a time; does not change the scores.
        bodies: Makes the truth instead, by the values of the column `gender`.

    Raises:
        SettingError: `bodies` lacks a gender of the data set, or the data set has none.
    """
    device, genders, done = body.v_template.device, _genders(dataset, bodies), 0
    joint_truth: JointTruth = dataset.joint_truth if isinstance(dataset, Judged) else "mesh"
    named = {gender_name(label): own for label, own in bodies.items()} if bodies else None
    found = []
    for sample in batches(dataset, device, batch_size):
        own = None if genders is None else genders[done : done + len(sample)]
        done += len(sample)
        truth = truth_of(sample, body, named, own, joint_truth=joint_truth)
        vertices = predict(sample)
        joints = centered(body.regress(vertices, EVALUATION_14), EVALUATION_14.root)
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
    return _scores(average(values, known), known[:, 0].numpy(), by_joint, pairs, dataset)


def _genders(dataset: PeopleDataset, bodies: Mapping[str, BodyModel] | None) -> np.ndarray | None:
    """Gender of each row where bodies are told apart by it."""
    if bodies is None:
        return None
    genders = dataset.columns.get("gender")
    if genders is None:
        raise SettingError("gendered truth needs a data set with the column gender")
    genders = np.array([gender_name(label) for label in genders])
    missing = sorted(set(genders) - {gender_name(label) for label in bodies})
    require(not missing, f"gendered truth needs a body for {', '.join(missing)}")
    return genders


def protocol_2(people: PeopleDataset) -> Subset:
    """Protocol 2 of Human3.6M: subjects S9 and S11 in the frontal camera (column `scene`).

    Raises:
        SettingError: The data set holds no such row.
    """
    subject, camera = (people.columns[name].astype(str) for name in ("subject", "scene"))
    rows = np.flatnonzero(np.isin(subject, PROTOCOL_2_SUBJECTS) & (camera == FRONTAL_CAMERA))
    require(
        len(rows) > 0,
        "--protocol h36m-p2: no person of S9 or S11 in camera 60457274; is this Human3.6M?",
    )
    return Subset(people, rows)


def _scores(
    averages: Mapping[str, float],
    known: np.ndarray,
    errors: Float[Tensor, "samples 14"],
    joints: Float[Tensor, "samples 2 14 3"],
    dataset: PeopleDataset,
) -> Scores:
    """The averages, and the errors of joints in metres in detail over the known samples."""
    per_sample = errors.double().mean(dim=1).numpy() * MM_PER_METRE
    per_sample[~known] = np.nan
    values: dict[str, Any] = {f"{name}_mm": None for name in SCORES}
    values.update(averages)
    centers = errors[known].double().mean(dim=0).tolist() if known.any() else []
    by_joint = zip(EVALUATION_14.names[: len(centers)], centers, strict=True)
    predicted = joints.select(1, 0)
    return Scores(
        **values,
        num_samples=len(dataset),
        num_nonfinite=int((~torch.isfinite(predicted)).flatten(start_dim=1).any(dim=1).sum()),
        per_joint_mm={name: mean * MM_PER_METRE for name, mean in by_joint},
        per_action_mm=_by_label(per_sample, dataset.columns.get("action"), known),
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
    joints: Float[Tensor, "samples 2 14 3"], dataset: PeopleDataset, known: np.ndarray
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
    bodies: Mapping[str, BodyModel] | None = None,
    bf16: bool = False,
) -> Scores:
    """Scores of a model in evaluation mode; its training flag is put back afterwards.

    `bodies` as in `score`; `bf16` runs the network in automatic mixed precision.
    """
    device = body.v_template.device.type

    def predict(sample: Sample) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return model(sample.images).vertices.float()

    training = model.training
    model.eval()
    try:
        return score(predict, body, dataset, batch_size=batch_size, bodies=bodies)
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
