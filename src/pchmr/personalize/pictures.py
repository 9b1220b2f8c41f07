"""Before and after to look at: the same pictures with the mesh of either model, as one PNG."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pchmr.body import BodyModel
from pchmr.data.crops import Square, centred_intrinsics, overlay_translation
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.overlays import shade_mesh
from pchmr.evaluation import center_vertices
from pchmr.models import HMRModel
from pchmr.runs import write_bytes

PICTURES = "before_after.png"
SIDE, NUM_SHOWN = 224, 4
LONG_LENS = 20.0
COLORS = ((0.85, 0.66, 0.5), (0.55, 0.68, 0.95))


@torch.no_grad()
def write_pictures(
    path: Path, models: tuple[HMRModel, HMRModel], body: BodyModel, people: PeopleDataset
) -> None:
    """Writes rows of picture, mesh before, mesh after, for people spread over the data set."""
    rows = np.unique(np.linspace(0, len(people) - 1, NUM_SHOWN).astype(int))
    images = people.batch(rows).images.to(body.v_template.device)
    large = torch.nn.functional.interpolate(images, (SIDE, SIDE), mode="bilinear")
    columns = [large.cpu()]
    for model, color in zip(models, COLORS, strict=True):
        output = model(images)
        meshes = center_vertices(body, output.vertices)
        pairs = zip(large, meshes, output.camera, strict=True)
        columns.append(torch.stack([_drawn(*one, body.faces, color).cpu() for one in pairs]))
    sheet = torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)
    stream = io.BytesIO()
    pixels = (sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _drawn(
    image: torch.Tensor,
    vertices: torch.Tensor,
    camera: torch.Tensor,
    faces: torch.Tensor,
    color: tuple[float, float, float],
) -> torch.Tensor:
    """The mesh over a crop, where its weak camera puts it."""
    focal = LONG_LENS * SIDE
    whole = Square(SIDE / 2, SIDE / 2, float(SIDE))
    placed = vertices + overlay_translation(camera, whole, focal, SIDE, SIDE)
    lens = centred_intrinsics(focal, SIDE, SIDE).to(vertices)
    mesh = shade_mesh(placed[None], faces, lens[None], SIDE, SIDE, color)[0]
    return mesh[:3] * mesh[3:] + image * (1 - mesh[3:])
