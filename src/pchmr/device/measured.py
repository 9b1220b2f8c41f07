"""What a written form of a network costs and how far it is from PyTorch, on held-out people."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.device.card import Form, Measured, Milliseconds
from pchmr.evaluation import score
from pchmr.geometry import centered
from pchmr.models import HMRModel
from pchmr.runs import file_sha256

WARMUPS = 2
FAR = 0.95  # share of the joints that move no farther than what the card says
MM = 1e3

Predict = Callable[[Float[Tensor, "batch 3 height width"]], Float[Tensor, "batch vertices 3"]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What every form is calibrated on and held against.

    Attributes:
        body: Whose vertices the network predicts.
        calibration: Training people that set the ranges of int8.
        held_out: People that no form was fitted to.
        repeats: Timed runs.
    """

    body: BodyModel
    calibration: PeopleDataset
    held_out: PeopleDataset
    repeats: int


def singles(people: PeopleDataset) -> Iterator[Sample]:
    """The people one by one."""
    for row in range(len(people)):
        yield people.batch([row])


@torch.no_grad()
def measure_torch(
    model: HMRModel, trial: Trial, *, bf16: bool = False
) -> tuple[Float[Tensor, "people vertices 3"], Measured]:
    """Vertices of the held-out people by PyTorch, their score and the latency.

    Args:
        model: Network.
        trial: People and body.
        bf16: Whether products are computed in bfloat16, as `torch.autocast` does it.
    """
    model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        vertices = meshes(lambda images: model(images).vertices, trial.held_out).float()
        image = trial.held_out.batch([0]).images
        milliseconds = cpu_ms(lambda: model(image), trial)
    return vertices, Measured(mpjpe_mm=mpjpe_of(vertices, trial), cpu_ms=milliseconds)


def bf16_unit() -> str | None:
    """What of this processor multiplies in bfloat16; None where nothing does."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 BF16" if torch.cpu._is_avx512_bf16_supported() else None


def measure_file(
    path: Path,
    trial: Trial,
    reference: Float[Tensor, "people vertices 3"],
    reference_mpjpe_mm: float | None,
) -> Form:
    """Size, hash, latency and agreement with PyTorch of one file."""
    from pchmr.device.runtime import OnnxModel

    exported = OnnxModel(path)
    vertices = meshes(lambda images: exported(images)["vertices"], trial.held_out)
    image = trial.held_out.batch([0]).images.numpy()
    before, after = reference_mpjpe_mm, mpjpe_of(vertices, trial)
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        "num_bytes": path.stat().st_size,
        "cpu_ms": cpu_ms(lambda: exported.raw(image), trial),
        "max_vertex_difference_m": (vertices - reference).abs().max().item(),
        "joints_moved_p95_mm": joints_moved_mm(vertices, reference, trial.body),
        "mpjpe_mm": after,
        "cost_mm": None if before is None or after is None else after - before,
    }


@torch.no_grad()
def difference_m(model: HMRModel, path: Path) -> float:
    """Largest difference of a vertex between a file and PyTorch, over one crop of noise."""
    from pchmr.device.runtime import OnnxModel

    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, model.image_size, model.image_size, generator=generator)
    return (OnnxModel(path)(image)["vertices"] - model(image).vertices).abs().max().item()


def meshes(predict: Predict, people: PeopleDataset) -> Float[Tensor, "people vertices 3"]:
    """The fine meshes of all people, one crop at a time."""
    return torch.cat([predict(sample.images) for sample in singles(people)])


def mpjpe_of(vertices: Float[Tensor, "people vertices 3"], trial: Trial) -> float | None:
    """MPJPE in mm of meshes, one for each held-out person in order."""
    return score(lambda sample: vertices[sample.index], trial.body, trial.held_out).mpjpe_mm


def cpu_ms(call: Callable[[], object], trial: Trial) -> Milliseconds:
    """Process CPU milliseconds of one call: minimum and median, after a warm-up."""
    spent = []
    for turn in range(WARMUPS + trial.repeats):
        began = time.process_time()
        call()
        if turn >= WARMUPS:
            spent.append((time.process_time() - began) * 1e3)
    return {"min": round(min(spent), 3), "median": round(statistics.median(spent), 3)}


def joints_moved_mm(
    vertices: Float[Tensor, "people vertices 3"],
    reference: Float[Tensor, "people vertices 3"],
    body: BodyModel,
) -> float:
    """How far the joints of all people but the farthest twentieth lie from PyTorch's, about the
    hips.
    """
    own, other = (
        centered(body.regress(v, EVALUATION_14), EVALUATION_14.root) for v in (vertices, reference)
    )
    return MM * torch.quantile((own - other).norm(dim=-1).flatten(), FAR).item()
