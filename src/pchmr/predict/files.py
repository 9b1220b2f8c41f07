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
from pchmr.predict.formats import WRITERS, Export
from pchmr.predict.motion import exported
from pchmr.predict.people import People, as_clip
from pchmr.predict.posed import posed
from pchmr.runs import write_bytes

WRITTEN = {"overlay": "_overlay.png", "glb": ".glb", "npz": ".npz"}
"""Files of a picture that are not those of a clip, by format."""
FILES = tuple(WRITTEN)


def write_people(
    stem: Path,
    image: Image,
    people: People,
    body: BodyModel,
    shape: ShapeExport = "neutral",
    formats: Sequence[str] = FILES,
) -> None:
    """Writes `<stem>_overlay.png`, `<stem>.glb`, `<stem>.npz`, or others that are asked for.

    Each is written whole or not at all. A picture without people gets arrays of none, an overlay
    that is the picture, and nothing else. The arrays and the overlay show the fitted shape, the
    others what `shape` says; glTF, BVH and CSV hold the picture as a motion of one frame. Overlay,
    scene and arrays of an earlier run that are not asked for go.
    """
    for ending in (WRITTEN[name] for name in WRITTEN if name not in formats):
        stem.with_name(f"{stem.name}{ending}").unlink(missing_ok=True)
    for name in formats:
        if name in WRITTEN:
            path = stem.with_name(f"{stem.name}{WRITTEN[name]}")
            content = _content(name, image, people, body, shape)
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, content)
        elif len(people.track_id):
            clip = as_clip(people)
            WRITERS[name](stem, Export(clip=clip, body=body, shape=shape, frames=lambda: iter(())))


def _content(
    name: str, image: Image, people: People, body: BodyModel, shape: ShapeExport
) -> bytes | None:
    """The bytes of an overlay, a scene or arrays; None for the scene of nobody."""
    faces, buffer = body.faces.cpu(), io.BytesIO()
    if name == "glb":
        someone = len(people.track_id) > 0
        return glb(meshes_of(people, body, shape), people.track_id, faces) if someone else None
    if name == "overlay":
        Pictures.fromarray(overlay(image, people, faces)).save(buffer, format="PNG")
    else:
        np.savez_compressed(buffer, **arrays_of(people, image))  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


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
