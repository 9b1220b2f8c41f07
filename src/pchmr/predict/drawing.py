"""People to look at: their meshes over the picture, and one scene in space."""

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor
from trimesh.exchange.gltf import export_glb
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from pchmr.data.crops import fitted
from pchmr.data.synthetic.overlays import shade_mesh
from pchmr.perception.interfaces import Image
from pchmr.predict.people import People

OVERLAY_SIDE = 1600  # pixels of the longer side of an overlay, at most
COLORS = (
    (0.55, 0.68, 0.95),
    (0.95, 0.70, 0.50),
    (0.60, 0.85, 0.62),
    (0.85, 0.62, 0.88),
    (0.95, 0.86, 0.50),
    (0.56, 0.84, 0.86),
)
"""Of people by number, over and over."""


def color_of(number: int) -> tuple[float, float, float]:
    """Of a person, by their number."""
    return COLORS[(number - 1) % len(COLORS)]


def overlay(
    image: Image, people: People, faces: Tensor
) -> UInt8[ndarray, "shown_height shown_width 3"]:
    """The meshes over the whole image, which is shrunk to at most 1600 pixels; the nearest last."""
    height, width = image.shape[:2]
    scale = min(1.0, OVERLAY_SIDE / max(width, height))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = fitted(image, *size)
    camera = torch.from_numpy(people.intrinsics).float()
    camera[0] *= size[0] / width
    camera[1] *= size[1] / height
    for row in np.argsort(-people.vertices[..., 2].mean(axis=1)):
        vertices = torch.from_numpy(people.vertices[row]).float()
        draw(canvas, vertices, faces, camera, color_of(int(people.track_id[row])))
    return canvas


def draw(
    canvas: UInt8[ndarray, "height width 3"],
    vertices: Float[Tensor, "vertices 3"],
    faces: Tensor,
    camera: Float[Tensor, "3 3"],
    color: tuple[float, float, float],
) -> None:
    """Draws a mesh onto a canvas, in the part of it that the mesh may cover."""
    region = _region(vertices, camera, canvas.shape[1], canvas.shape[0])
    if region is None:
        return
    left, top, right, bottom = region
    own = camera.clone()
    own[:2, 2] -= torch.tensor([left, top])
    drawn = shade_mesh(vertices[None], faces, own[None], bottom - top, right - left, color)[0]
    shade, alpha = drawn[:3].permute(1, 2, 0).numpy() * 255, drawn[3, ..., None].numpy()
    part = canvas[top:bottom, left:right]
    canvas[top:bottom, left:right] = np.round(shade * alpha + part * (1 - alpha))


def _region(
    vertices: Tensor, camera: Tensor, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The pixels that a mesh may cover: left, top, right, bottom; None outside the image."""
    if float(vertices[:, 2].min()) <= 0:
        return None
    seen = vertices @ camera.mT
    seen = seen[:, :2] / seen[:, 2:]
    low, high = seen.amin(dim=0).floor().tolist(), seen.amax(dim=0).ceil().tolist()
    left, top = max(int(low[0]), 0), max(int(low[1]), 0)
    right, bottom = min(int(high[0]), width), min(int(high[1]), height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def glb(
    meshes: Float[np.ndarray, "people vertices 3"],
    numbers: Int[np.ndarray, " people"],
    faces: Tensor,
) -> bytes:
    """Everybody where they stand as one scene of binary glTF: metres, y up, as viewers expect."""
    scene = trimesh.Scene()
    for vertices, number in zip(meshes, numbers.tolist(), strict=True):
        color = [round(255 * share) for share in color_of(number)]
        material = PBRMaterial(
            baseColorFactor=[*color, 255], metallicFactor=0.0, roughnessFactor=0.7
        )
        mesh = trimesh.Trimesh(
            vertices * [1, -1, -1],
            faces.numpy(),
            visual=TextureVisuals(material=material),
            process=False,
        )
        name = f"person_{number}"
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    return export_glb(scene, include_normals=True)
