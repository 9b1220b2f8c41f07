"""Examples for the contact sheet: picked by error rank, stored as arrays, drawn as pictures.

A run writes them at its end; the report draws them later without the model, body or data set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.data.crops import Square, centred_intrinsics, overlay_translation
from pchmr.data.sample import PeopleDataset, mesh_of
from pchmr.data.synthetic.overlays import shade_mesh
from pchmr.door.arrays import read_arrays
from pchmr.evaluation import center_vertices
from pchmr.runs import EXAMPLES, replacing

# Beyond these no run has written the file.
MOST_BYTES, MOST_EXAMPLES, MOST_SIDE, MOST_VERTICES, HUGE = 2**28, 64, 1024, 50_000, 1e7
RANKS = ("best", "median", "worst")
PER_RANK = 2
TILE = 200
LONG_LENS = 20.0  # focal length in image sides: nearly parallel, as the weak camera is
TRUTH_COLOR = (0.55, 0.78, 0.55)
PREDICTION_COLOR = (0.55, 0.68, 0.95)
PAPER_COLOR = (0.96, 0.96, 0.97)
MIN_SPAN = 1.2  # metres shown by a side view at least, so that a crouching person looks small


@runtime_checkable
class HasErrors(Protocol):
    """Scores that know the error of every sample."""

    @property
    def per_sample_mpjpe_mm(self) -> np.ndarray:
        """MPJPE in mm, NaN where there is no truth."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examples:
    """People with truth and prediction, ordered by rank.

    Attributes:
        image: Crops.
        truth: Vertices in the camera frame, metres.
        predicted: Vertices about the pelvis, metres.
        camera: Predicted weak perspective (s, tx, ty).
        intrinsics: True pinhole camera of the crop, pixels.
        faces: Triangles of both meshes.
        error_mm: MPJPE.
        index: Row in the data set.
        rank: One of `RANKS`.
    """

    image: UInt8[np.ndarray, "examples height width 3"]
    truth: Float[np.ndarray, "examples vertices 3"]
    predicted: Float[np.ndarray, "examples vertices 3"]
    camera: Float[np.ndarray, "examples 3"]
    intrinsics: Float[np.ndarray, "examples 3 3"]
    faces: Int[np.ndarray, "faces 3"]
    error_mm: Float[np.ndarray, " examples"]
    index: Int[np.ndarray, " examples"]
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def choose(
    error_mm: Float[np.ndarray, " samples"], per_rank: int = PER_RANK
) -> list[tuple[str, int]]:
    """(rank, row) of the samples with the least, the middle and the largest errors.

    Samples without an error (NaN) take no part; every sample is chosen at most once.
    """
    order = np.argsort(error_mm, kind="stable")[: int(np.isfinite(error_mm).sum())]
    middle = max((len(order) - per_rank) // 2, 0)
    starts = {"best": 0, "median": middle, "worst": max(len(order) - per_rank, 0)}
    chosen: dict[int, str] = {}
    for rank, start in starts.items():
        for row in order[start : start + per_rank]:
            chosen.setdefault(int(row), rank)
    return [(rank, row) for row, rank in chosen.items()]


@torch.no_grad()
def write_examples(
    folder: Path,
    model: nn.Module,
    body: BodyModel,
    dataset: PeopleDataset,
    scores: HasErrors,
    *,
    ranked_by: HasErrors | None = None,
    per_rank: int = PER_RANK,
    name: str = EXAMPLES,
) -> None:
    """Predicts the chosen samples once more and writes them into the run folder.

    Samples are chosen by the errors of `ranked_by`, so that runs from one start show the same
    people; without it, by the run's own. Without one sample that has a mesh as truth nothing is
    written.
    """
    chosen = choose((ranked_by or scores).per_sample_mpjpe_mm, per_rank)
    if not chosen:
        return
    sample = dataset.batch([row for _, row in chosen]).to(body.v_template.device)
    if not bool(sample.has_smpl.all()):
        return
    truth = mesh_of(sample, body)
    training = model.training
    model.eval()
    output = model(sample.images)
    model.train(training)
    examples = Examples(
        image=(sample.images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy(),
        truth=_array(truth),
        predicted=_array(center_vertices(body, output.vertices)),
        camera=_array(output.camera),
        intrinsics=_array(sample.intrinsics),
        faces=body.faces.cpu().numpy().astype(np.int32),
        error_mm=scores.per_sample_mpjpe_mm[[row for _, row in chosen]],
        index=np.array([row for _, row in chosen]),
        rank=np.array([rank for rank, _ in chosen]),
    )
    arrays = {f.name: getattr(examples, f.name) for f in fields(examples)}
    with replacing(folder / name) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def read_examples(path: Path | None) -> Examples | None:
    """The examples that a file holds; None where there are none or they make no sense."""
    if path is None:
        return None
    try:
        arrays = read_arrays(path, [f.name for f in fields(Examples)])
        return Examples(**arrays) if _makes_sense(arrays) else None
    except Exception:  # damaged content may fail in any way
        return None


def _makes_sense(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays that anybody may have written are such as a run writes."""
    count, num_faces = len(arrays["index"]), len(arrays["faces"])
    if not 0 < count <= MOST_EXAMPLES or num_faces > MOST_VERTICES * 3:
        return False
    side, num_vertices = arrays["image"].shape[1], arrays["truth"].shape[1]
    shapes = {
        "image": (count, side, side, 3),
        "truth": (count, num_vertices, 3),
        "predicted": (count, num_vertices, 3),
        "camera": (count, 3),
        "intrinsics": (count, 3, 3),
        "faces": (num_faces, 3),
        "error_mm": (count,),
        "index": (count,),
        "rank": (count,),
    }
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        return False
    numbers = [values for name, values in arrays.items() if name != "rank"]
    sound = all(np.isfinite(values).all() and abs(values).max() < HUGE for values in numbers)
    kinds = {arrays["image"].dtype.kind, arrays["faces"].dtype.kind, arrays["index"].dtype.kind}
    faces = arrays["faces"]
    small = side <= MOST_SIDE and num_vertices <= MOST_VERTICES
    within = faces.min() >= 0 and faces.max() < num_vertices
    return bool(sound and small and within and kinds <= {"u", "i"})


Tile = UInt8[np.ndarray, "tile tile 3"]


@dataclass(frozen=True)
class Picture:
    """A row of the contact sheet, in RGB tiles.

    Attributes:
        rank: Of the person.
        index: Row in the data set.
        error_mm: MPJPE.
        truth: The input, the truth over it and from the side; none where it was not asked for.
        prediction: The prediction over the input and from the side.
    """

    rank: str
    index: int
    error_mm: float
    truth: list[Tile]
    prediction: list[Tile]


def draw(examples: Examples, *, with_truth: bool = True) -> Iterator[Picture]:
    """Every example as pictures; both side views of one share centre and scale."""
    faces = torch.from_numpy(examples.faces).long()
    for i in range(len(examples)):
        image = torch.from_numpy(examples.image[i]).permute(2, 0, 1).float() / 255
        truth, predicted = (
            torch.from_numpy(mesh[i]).float() for mesh in (examples.truth, examples.predicted)
        )
        camera = torch.from_numpy(examples.camera[i]).float()
        intrinsics = torch.from_numpy(examples.intrinsics[i]).float()
        lens, placed = _before_long_lens(predicted, camera, image.shape[-1])
        span = max(_span(truth), _span(predicted))
        seen = [
            _overlay(image, placed, faces, lens, PREDICTION_COLOR),
            _side_view(predicted, faces, span, PREDICTION_COLOR),
        ]
        true = []
        if with_truth:
            over = _overlay(image, truth, faces, intrinsics, TRUTH_COLOR)
            true = [image, over, _side_view(truth, faces, span, TRUTH_COLOR)]
        yield Picture(
            str(examples.rank[i]),
            int(examples.index[i]),
            float(examples.error_mm[i]),
            [_tile(tile) for tile in true],
            [_tile(tile) for tile in seen],
        )


def _before_long_lens(vertices: Tensor, camera: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """A nearly parallel camera of the crop, and the mesh where it covers what `camera` says."""
    focal = LONG_LENS * side
    whole = Square(side / 2, side / 2, float(side))
    translation = overlay_translation(camera, whole, focal, side, side)
    return centred_intrinsics(focal, side, side), vertices + translation


def _overlay(
    image: Float[Tensor, "3 side side"],
    vertices: Float[Tensor, "vertices 3"],
    faces: Tensor,
    intrinsics: Float[Tensor, "3 3"],
    color: tuple[float, float, float],
) -> Float[Tensor, "3 tile tile"]:
    """The mesh over the picture, both at the tile's size."""
    scale = TILE / image.shape[-1]
    zoom = intrinsics.new_tensor([[scale], [scale], [1.0]])
    large = torch.nn.functional.interpolate(image[None], (TILE, TILE), mode="bilinear")[0]
    return _lay_over(large, vertices, faces, intrinsics * zoom, color)


def _lay_over(
    background: Tensor, vertices: Tensor, faces: Tensor, intrinsics: Tensor, color: tuple
) -> Tensor:
    mesh = shade_mesh(vertices[None], faces, intrinsics[None], TILE, TILE, color)[0]
    return mesh[:3] * mesh[3:] + background * (1 - mesh[3:])


def _span(vertices: Tensor) -> float:
    """Metres that a side view shows: the person's largest extent and some air."""
    extent = vertices.amax(dim=0) - vertices.amin(dim=0)
    return max(1.15 * float(extent.max()), MIN_SPAN)


def _side_view(
    vertices: Tensor, faces: Tensor, span: float, color: tuple[float, float, float]
) -> Tensor:
    """The mesh from the right edge of the picture, centred, in a view `span` metres across."""
    middle = (vertices.amax(dim=0) + vertices.amin(dim=0)) / 2
    x, y, z = (vertices - middle).unbind(-1)
    turned = torch.stack([z, y, -x], dim=-1)
    focal = LONG_LENS * TILE
    turned[:, 2] += focal * span / TILE
    paper = torch.tensor(PAPER_COLOR)[:, None, None].expand(3, TILE, TILE)
    return _lay_over(paper, turned, faces, centred_intrinsics(focal, TILE, TILE), color)


def _tile(image: Tensor) -> np.ndarray:
    if image.shape[-1] != TILE:
        image = torch.nn.functional.interpolate(image[None], (TILE, TILE), mode="bilinear")[0]
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
