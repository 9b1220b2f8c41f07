"""How well those who speak of a person agree: a score in [0, 1] that needs no truth.

Four voices: how surely the person is seen, whether the mirror image shows the same pose in space,
whether the mesh covers the pixels that the person does, and how far the network's mesh lies from
the fit. The score is their geometric mean. It ranks results and promises no millimetres.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.body.joints import COCO_17
from pchmr.data.crops import Square, crop_intrinsics
from pchmr.data.synthetic.overlays import rasterize
from pchmr.perception.people import SeenPerson

CELLS = 64  # a side of the square in which silhouettes are compared
SHOWN = 0.5  # chance from which a cell shows the person
MIRROR_APART = 0.15  # metres of the joints by which agreement falls to 1/e
NETWORK_APART = 0.3  # metres of the vertices, likewise
LIMBS = COCO_17.names[5:]


def mirror_agreement(
    person: SeenPerson, mirrored: Float[ndarray, "keypoints 3"], names: Sequence[str]
) -> float:
    """Of the limbs' joints in space with those of the mirror image."""
    rows = [list(names).index(name) for name in LIMBS if name in names]
    apart = np.linalg.norm(person.world[rows] - mirrored[rows], axis=-1).mean()
    return float(np.exp(-apart / MIRROR_APART))


def network_agreement(
    fitted: Float[Tensor, "vertices 3"], predicted: Float[Tensor, "vertices 3"]
) -> float:
    """Of a fitted mesh with the network's, wherever they stand."""
    apart = (fitted - fitted.mean(dim=0)) - (predicted - predicted.mean(dim=0))
    return float(torch.exp(-apart.norm(dim=-1).mean() / NETWORK_APART))


def silhouette_agreement(
    person: SeenPerson,
    vertices: Float[Tensor, "vertices 3"],
    faces: Tensor,
    camera: Float[ndarray, "3 3"],
    size: tuple[int, int],
) -> float:
    """Intersection over union of the mesh and of the pixels that show the person.

    Args:
        person: As seen.
        vertices: Metres before the camera.
        faces: Of the mesh.
        camera: Of the whole picture.
        size: Width and height of the picture.
    """
    square = Square(person.crop.x, person.crop.y, person.crop.side)
    own = crop_intrinsics(torch.from_numpy(camera).to(vertices), square, CELLS)
    shown = rasterize(vertices[None], faces, own[None], CELLS, CELLS).face[0] >= 0
    left, top, _, _ = square.bbox_xyxy
    steps = (np.arange(CELLS) + 0.5) * square.side / CELLS
    places = np.stack(np.meshgrid(left + steps, top + steps), axis=-1)
    inside = ((places >= 0) & (places < np.array(size))).all(axis=-1)
    mesh, seen = shown.cpu().numpy() & inside, (person.chance(places) >= SHOWN) & inside
    return float((mesh & seen).sum() / max((mesh | seen).sum(), 1))


def score(voices: Sequence[float]) -> float:
    """The geometric mean."""
    return float(np.prod(np.clip(voices, 0.0, 1.0)) ** (1 / len(voices)))
