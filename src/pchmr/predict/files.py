"""What is written about the people of a picture: the overlay, the scene and the arrays."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image as Pictures

from pchmr.body import BodyModel
from pchmr.config import ShapeExport
from pchmr.perception.interfaces import Image
from pchmr.predict.drawing import glb, overlay
from pchmr.predict.motion import exported
from pchmr.predict.people import People
from pchmr.predict.posed import posed
from pchmr.runs import write_bytes

PHOTO_FORMATS = ("overlay", "glb", "npz")


def write_people(
    stem: Path,
    image: Image,
    people: People,
    body: BodyModel,
    shape: ShapeExport = "neutral",
    formats: Sequence[str] = PHOTO_FORMATS,
) -> None:
    """Writes `<stem>_overlay.png`, `<stem>.glb` and `<stem>.npz`, each whole or not at all.

    Those that are not asked for, and are there from an earlier run, go.

    A picture without people gets arrays of none, an overlay that is the picture, and no scene.
    The arrays and the overlay show the fitted shape, the scene what `shape` says.
    """
    faces = body.faces.cpu()
    picture, arrays, scene = io.BytesIO(), io.BytesIO(), b""
    if "overlay" in formats:
        Pictures.fromarray(overlay(image, people, faces)).save(picture, format="PNG")
    if "npz" in formats:
        np.savez_compressed(arrays, **arrays_of(people, image))  # pyright: ignore[reportArgumentType]
    if "glb" in formats and len(people.track_id):
        scene = glb(meshes_of(people, body, shape), people.track_id, faces)
    made = {"_overlay.png": picture.getvalue(), ".glb": scene, ".npz": arrays.getvalue()}
    for ending, content in made.items():
        path = stem.with_name(f"{stem.name}{ending}")
        if content:
            write_bytes(path, content)
        else:
            path.unlink(missing_ok=True)


def meshes_of(
    people: People, body: BodyModel, shape: ShapeExport
) -> Float[ndarray, "people vertices 3"]:
    """Meshes that leave: of the mean shape, where its pixels nearly stay, unless asked for."""
    if shape == "fitted":
        return people.vertices
    meshes = np.empty_like(people.vertices)
    for row, betas in enumerate(people.betas):
        here = slice(row, row + 1)
        own, transl = exported(body, betas, people.transl[here], shape)
        meshes[here] = posed(body, people.global_orient[here], people.body_pose[here], own, transl)[
            0
        ]
    return meshes


def arrays_of(people: People, image: Image) -> dict[str, ndarray]:
    """The fields of `People` that are known, and `image_size`: width and height of the picture."""
    size = np.array([image.shape[1], image.shape[0]])
    told = {name: value for name, value in asdict(people).items() if value is not None}
    return {name: np.asarray(value) for name, value in told.items()} | {"image_size": size}
