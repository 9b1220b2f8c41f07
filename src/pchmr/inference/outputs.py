"""What is written about a person: the overlay, the mesh and the parameters."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from trimesh.exchange.gltf import export_glb
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from pchmr.body import BodyModel
from pchmr.body.fit import fit_body
from pchmr.body.joints import EVALUATION_14
from pchmr.data.crops import centred_intrinsics, fitted, overlay_translation
from pchmr.data.synthetic.overlays import shade_mesh
from pchmr.inference.predictor import MIN_CAMERA_SCALE, Person, Pixels
from pchmr.runs import write_bytes

LONG_LENS = 10.0  # focal length in image diagonals: nearly parallel, as the weak camera is
OVERLAY_SIDE = 1600  # pixels of the longer side of an overlay, at most
OVERLAY_COLOR = (0.55, 0.68, 0.95)
SURFACE_COLOR = (140, 173, 242, 255)


def long_lens(
    person: Person, width: int, height: int
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Intrinsics of the whole image, and where the mesh stands before that camera, in metres."""
    focal_length = LONG_LENS * float(np.hypot(width, height))
    camera = person.camera.clone()
    camera[0] = camera[0].clamp_min(MIN_CAMERA_SCALE)
    translation = overlay_translation(camera, person.square, focal_length, width, height)
    return centred_intrinsics(focal_length, width, height), translation


def overlay(
    image: Pixels, person: Person, faces: Tensor
) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
    """The mesh drawn over the whole image, which is shrunk to at most 1600 pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, OVERLAY_SIDE / max(width, height))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = fitted(image, *size)
    intrinsics, translation = long_lens(person, width, height)
    vertices = person.vertices + translation
    intrinsics[0] *= size[0] / width
    intrinsics[1] *= size[1] / height
    region = _region(vertices, intrinsics, *size)
    if region is None:
        return canvas
    left, top, right, bottom = region
    intrinsics[:2, 2] -= torch.tensor([left, top])
    drawn = shade_mesh(
        vertices[None], faces, intrinsics[None], bottom - top, right - left, OVERLAY_COLOR
    )[0]
    color, alpha = drawn[:3].permute(1, 2, 0).numpy() * 255, drawn[3, ..., None].numpy()
    part = canvas[top:bottom, left:right]
    canvas[top:bottom, left:right] = np.round(color * alpha + part * (1 - alpha))
    return canvas


def _region(
    vertices: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The pixels that a mesh may cover: left, top, right, bottom; None outside the image."""
    seen = vertices @ intrinsics.mT
    seen = seen[:, :2] / seen[:, 2:]
    low, high = seen.amin(dim=0).floor().tolist(), seen.amax(dim=0).ceil().tolist()
    left, top = max(int(low[0]), 0), max(int(low[1]), 0)
    right, bottom = min(int(high[0]), width), min(int(high[1]), height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def glb(vertices: Float[Tensor, "vertices 3"], faces: Tensor) -> bytes:
    """The mesh as binary glTF in metres, y up and facing the viewer, as viewers expect."""
    upright = vertices.numpy() * [1, -1, -1]
    material = PBRMaterial(baseColorFactor=SURFACE_COLOR, metallicFactor=0.0, roughnessFactor=0.7)
    mesh = trimesh.Trimesh(
        upright, faces.numpy(), visual=TextureVisuals(material=material), process=False
    )
    return export_glb(trimesh.Scene(mesh), include_normals=True)


def parameters(
    image: Pixels, person: Person, body: BodyModel, exif_focal: float | None = None
) -> dict[str, Any]:
    """Everything about a person as arrays; metres, radians, pixels.

    `vertices`, `joints` (named by `joint_names`): camera axes, about the middle of the hips.
    `camera`: weak perspective (s, tx, ty) of the crop `crop_xyxy`. `intrinsics`, `translation`: a
    camera with a long lens of the whole image (`image_size`: width, height), and where the mesh
    stands before it to cover the same pixels. `exif_focal_length`: the photo's own, in pixels, NaN
    where unknown. `global_orient`, `body_pose`, `betas`, `transl`: the body that lies closest to
    the vertices, `fit_error_mm` away on average.
    """
    height, width = image.shape[:2]
    intrinsics, translation = long_lens(person, width, height)
    vertices = person.vertices.to(body.v_template.device)
    fit = fit_body(body, vertices[None])
    fitted = (fit.global_orient, fit.body_pose, fit.betas, fit.transl)
    names = ("global_orient", "body_pose", "betas", "transl")
    return {
        "vertices": person.vertices.numpy(),
        "joints": person.joints.numpy(),
        "joint_names": np.array(EVALUATION_14.names),
        "camera": person.camera.numpy(),
        "crop_xyxy": np.array(person.square.bbox_xyxy),
        "image_size": np.array([width, height]),
        "intrinsics": intrinsics.numpy(),
        "translation": translation.numpy(),
        "exif_focal_length": np.array(np.nan if exif_focal is None else exif_focal),
        **{name: value[0].cpu().numpy() for name, value in zip(names, fitted, strict=True)},
        "fit_error_mm": np.array(float(fit.error[0]) * 1000),
    }


def write_person(
    stem: Path,
    image: Pixels,
    person: Person,
    body: BodyModel,
    exif_focal: float | None = None,
) -> None:
    """Writes `<stem>_overlay.png`, `<stem>.glb` and `<stem>.npz`, each whole or not at all."""
    faces = body.faces.cpu()
    picture, arrays = io.BytesIO(), io.BytesIO()
    Image.fromarray(overlay(image, person, faces)).save(picture, format="PNG")
    np.savez_compressed(arrays, **parameters(image, person, body, exif_focal))
    write_bytes(stem.with_name(f"{stem.name}_overlay.png"), picture.getvalue())
    write_bytes(stem.with_name(f"{stem.name}.glb"), glb(person.vertices, faces))
    write_bytes(stem.with_name(f"{stem.name}.npz"), arrays.getvalue())
