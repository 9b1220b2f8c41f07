"""A labeled person to look at: the mesh over the picture, and the same mesh from the side."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from pchmr.data.crops import fitted
from pchmr.data.synthetic.overlays import shade_mesh

HEIGHT = 480  # pixels of both views
COLOR = (0.55, 0.68, 0.95)
BACKGROUND = 245
FILL = 0.85  # of the side view's shorter side that the person fills


def sheet(
    image: UInt8[ndarray, "rows columns 3"],
    vertices: Float[Tensor, "people vertices 3"],
    faces: Tensor,
    intrinsics: Float[Tensor, "3 3"],
    height: int = HEIGHT,
) -> UInt8[ndarray, "height width 3"]:
    """Overlay on the left, side view of the first person on the right.

    Args:
        image: Picture.
        vertices: Labeled meshes, camera frame, metres.
        faces: Triangles.
        intrinsics: Of the whole picture, pixels.
        height: Of the sheet in pixels.
    """
    scale = height / image.shape[0]
    width = max(round(image.shape[1] * scale), 1)
    canvas = fitted(image, width, height)
    camera = intrinsics.clone()
    camera[:2] *= scale
    for mesh in sorted(vertices, key=lambda mesh: -float(mesh[:, 2].mean())):
        canvas = _drawn(canvas, mesh, faces, camera)
    return np.concatenate([canvas, side_view(vertices[0], faces, height)], axis=1)


def side_view(
    vertices: Float[Tensor, "vertices 3"], faces: Tensor, side: int
) -> UInt8[ndarray, "side side 3"]:
    """The mesh seen from its left as the camera stands, nearly parallel; toward the camera is left.

    What a picture cannot show, depth, lies across this view.
    """
    centered = vertices - (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
    turned = torch.stack([centered[:, 2], centered[:, 1], -centered[:, 0]], dim=-1)
    reach = float((turned.amax(dim=0) - turned.amin(dim=0))[:2].amax())
    distance = 20.0 * reach
    focal = FILL * side * distance / reach
    camera = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])
    blank = np.full((side, side, 3), BACKGROUND, dtype=np.uint8)
    return _drawn(blank, turned + torch.tensor([0.0, 0.0, distance]), faces, camera)


def _drawn(canvas: ndarray, vertices: Tensor, faces: Tensor, camera: Tensor) -> ndarray:
    """The shaded mesh on a canvas."""
    height, width = canvas.shape[:2]
    drawn = shade_mesh(vertices[None], faces, camera.float()[None], height, width, COLOR)[0]
    color, alpha = drawn[:3].permute(1, 2, 0).numpy() * 255, drawn[3, ..., None].numpy()
    return np.round(color * alpha + canvas * (1 - alpha)).astype(np.uint8)


def png(image: UInt8[ndarray, "height width 3"]) -> bytes:
    """The image as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def overlay_png(
    image: UInt8[ndarray, "rows columns 3"],
    vertices: Float[ndarray, "people vertices 3"],
    faces: Tensor,
    intrinsics: Float[ndarray, "3 3"],
) -> bytes | None:
    """The sheet of label arrays as a PNG file; None where no mesh is before the camera."""
    sound = [np.isfinite(one).all() and one[:, 2].min() > 0 for one in vertices]
    if not any(sound):
        return None
    meshes, camera = torch.from_numpy(vertices[sound]).float(), torch.from_numpy(intrinsics).float()
    return png(sheet(image, meshes, faces.cpu(), camera))


def overlays_png(
    pictures: Mapping[int, UInt8[ndarray, "rows columns 3"]],
    arrays: Mapping[str, ndarray],
    faces: Tensor,
) -> bytes | None:
    """Sheets of some frames of label arrays below each other; None where there is none to draw."""
    sheets = []
    for row, image in pictures.items():
        mesh, camera = arrays["vertices"][row], arrays["intrinsics"][row]
        if np.isfinite(mesh).all() and mesh[:, 2].min() > 0:
            shown = torch.from_numpy(mesh).float()[None]
            sheets.append(sheet(image, shown, faces.cpu(), torch.from_numpy(camera).float()))
    if not sheets:
        return None
    width = max(one.shape[1] for one in sheets)
    wide = [
        np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0)), constant_values=BACKGROUND)
        for one in sheets
    ]
    return png(np.concatenate(wide))
