"""The field's three errors, as pure functions in metres, and a mergeable state above them.

States merge by sums and counts, so an average of averages never happens: scores over clients,
batches or processes equal the scores over all samples at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.geometry import similarity, similarity_align

MM_PER_METRE = 1000.0
SCORES = ("mpjpe", "pa_mpjpe", "mpvpe")
PAPER_PROCESSES, PAPER_BATCH_SIZE = 4, 16


def mpjpe(
    predicted: Float[Tensor, "batch joints 3"], truth: Float[Tensor, "batch joints 3"]
) -> Float[Tensor, " batch"]:
    """Mean per-joint position error in metres, one value a sample; both sides already centred."""
    return torch.linalg.vector_norm(predicted - truth, dim=-1).mean(dim=-1)


def pa_mpjpe(
    predicted: Float[Tensor, "batch joints 3"], truth: Float[Tensor, "batch joints 3"]
) -> Float[Tensor, " batch"]:
    """MPJPE in metres after the best similarity alignment of each sample (Procrustes)."""
    return mpjpe(similarity_align(predicted, truth), truth)


def mpvpe(
    predicted: Float[Tensor, "batch vertices 3"], truth: Float[Tensor, "batch vertices 3"]
) -> Float[Tensor, " batch"]:
    """Mean per-vertex position error in metres, one value a sample; both sides already centred."""
    return mpjpe(predicted, truth)


def mrpe(
    predicted: Float[Tensor, "batch 3"], truth: Float[Tensor, "batch 3"]
) -> Float[Tensor, " batch"]:
    """Root position error in the camera frame in metres, one value a sample; nothing is aligned.

    Source: MRPE as in Moon et al. 2019, "Camera distance-aware top-down approach".
    """
    return torch.linalg.vector_norm(predicted - truth, dim=-1)


CHUNK_FRAMES = 100
CONTACT_METRES = 0.01
"""A foot that truly moves less from frame to frame stands."""


def world_mpjpe(
    predicted: Float[Tensor, "frames joints 3"],
    truth: Float[Tensor, "frames joints 3"],
    *,
    first_frames: int | None = None,
) -> float:
    """MPJPE in mm of clips of 100 frames in the world, each aligned by one similarity transform.

    Source: W-MPJPE and WA-MPJPE as in GLAMR (Yuan et al. 2022) and WHAM (Shin et al. 2024).

    Args:
        predicted: Joints in metres.
        truth: Joints in metres.
        first_frames: Frames that decide the alignment (two for W-MPJPE); all of a clip (WA-MPJPE)
            without it.
    """
    mean = Mean()
    chunks = zip(predicted.split(CHUNK_FRAMES), truth.split(CHUNK_FRAMES), strict=True)
    for ours, true in chunks:
        scale, rotation, shift = similarity(
            ours[:first_frames].flatten(0, 1), true[:first_frames].flatten(0, 1)
        )
        mean.add(mpjpe(scale * (ours @ rotation) + shift, true))
    return mean.value * MM_PER_METRE


def root_error(predicted: Float[Tensor, "frames 3"], truth: Float[Tensor, "frames 3"]) -> float:
    """Error of a trajectory after rigid alignment, percent of the true way (RTE)."""
    _, rotation, shift = similarity(predicted, truth, is_rigid=True)
    error = (predicted @ rotation + shift - truth).norm(dim=-1).mean()
    way = (truth[1:] - truth[:-1]).norm(dim=-1).sum()
    return float(100 * error / way) if way > 0 else math.nan


def jitter(joints: Float[Tensor, "frames joints 3"], frames_per_second: float) -> float:
    """Mean size of the third derivative of joints, metres per second cubed."""
    third = joints.diff(n=3, dim=0) * frames_per_second**3
    return float(third.norm(dim=-1).mean())


def foot_sliding(
    predicted: Float[Tensor, "frames feet 3"], truth: Float[Tensor, "frames feet 3"]
) -> float:
    """Mean way in mm that predicted feet move from frame to frame while the true ones stand."""
    stands = truth.diff(dim=0).norm(dim=-1) < CONTACT_METRES
    moved = predicted.diff(dim=0).norm(dim=-1)
    return float(moved[stands].mean() * MM_PER_METRE) if stands.any() else math.nan


@dataclass
class Mean:
    """A mean that merges: float64 sum and count."""

    total: float = 0.0
    count: int = 0

    def add(self, values: Tensor) -> None:
        """Adds every entry of `values`."""
        self.total += float(values.double().sum())
        self.count += values.numel()

    def merge(self, other: "Mean") -> "Mean":
        """The mean over both sets of entries."""
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """Sum over count; NaN where nothing was added."""
        return self.total / self.count if self.count else math.nan


@dataclass
class MetricState:
    """Named means, in metres; a name that was never added to is absent from the scores."""

    means: dict[str, Mean] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds per-sample errors in metres under their names; empty tensors add nothing."""
        for name, tensor in values.items():
            if tensor.numel():
                self.means.setdefault(name, Mean()).add(tensor)

    def merge(self, other: "MetricState") -> "MetricState":
        """The state over the samples of both."""
        names = list(self.means) + [name for name in other.means if name not in self.means]
        return MetricState(
            {n: self.means.get(n, Mean()).merge(other.means.get(n, Mean())) for n in names}
        )

    def scores_mm(self) -> dict[str, float]:
        """Means in millimetres, keyed `<name>_mm`."""
        return {f"{n}_mm": mean.value * MM_PER_METRE for n, mean in self.means.items()}


def means(errors: Float[Tensor, "samples 3"], known: Bool[Tensor, "samples 3"]) -> dict[str, float]:
    """The three `SCORES` in mm over the samples that have their truth; others are absent."""
    state = MetricState()
    columns = zip(SCORES, errors.unbind(dim=1), known.unbind(dim=1), strict=True)
    state.add({name: values[own] for name, values, own in columns})
    return state.scores_mm()


def paper_means(
    errors: Float[Tensor, "samples 3"],
    known: Bool[Tensor, "samples 3"],
    num_processes: int = PAPER_PROCESSES,
    batch_size: int = PAPER_BATCH_SIZE,
) -> dict[str, float]:
    """The three `SCORES` in mm as METRO's, FastMETRO's and TORE's evaluation averages them.

    Each process sees every n-th sample, and the first ones once more where the number does not
    divide; the result is the mean of the processes' means. PA-MPJPE counts every sample of a batch
    but weighs the batch by how many have labeled joints. A score without truth stays absent, where
    that code prints 0.
    """
    padded = -(-len(errors) // num_processes) * num_processes
    shares = (torch.arange(padded) % len(errors)).view(-1, num_processes).T
    states = [MetricState() for _ in shares]
    for share, state in zip(shares, states, strict=True):
        for rows in share.split(batch_size):
            for index, name in enumerate(SCORES):
                weighed_by = "mpjpe" if name == "pa_mpjpe" else name
                weight = int(known[rows, SCORES.index(weighed_by)].sum())
                if weight:
                    mean = errors[rows, index][known[rows, index]].double().mean()
                    state.add({name: mean.expand(weight)})
    found = [state.scores_mm() for state in states]
    names = dict.fromkeys(name for scores in found for name in scores)
    by_name = {name: [scores[name] for scores in found if name in scores] for name in names}
    return {name: sum(parts) / len(parts) for name, parts in by_name.items()}
