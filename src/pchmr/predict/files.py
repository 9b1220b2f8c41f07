"""What is written about the people of a picture: the overlay, the scene and the arrays."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image as Pictures

from pchmr.body import BodyModel
from pchmr.perception.interfaces import Image
from pchmr.predict.drawing import glb, overlay
from pchmr.predict.people import People
from pchmr.runs import write_bytes


def write_people(stem: Path, image: Image, people: People, body: BodyModel) -> None:
    """Writes `<stem>_overlay.png`, `<stem>.glb` and `<stem>.npz`, each whole or not at all.

    A picture without people gets arrays of none, an overlay that is the picture, and no scene.
    """
    faces = body.faces.cpu()
    picture, arrays = io.BytesIO(), io.BytesIO()
    Pictures.fromarray(overlay(image, people, faces)).save(picture, format="PNG")
    np.savez_compressed(arrays, **arrays_of(people, image))  # pyright: ignore[reportArgumentType]
    write_bytes(stem.with_name(f"{stem.name}_overlay.png"), picture.getvalue())
    scene = stem.with_name(f"{stem.name}.glb")
    if len(people.track_id):
        write_bytes(scene, glb(people, faces))
    else:
        scene.unlink(missing_ok=True)
    write_bytes(stem.with_name(f"{stem.name}.npz"), arrays.getvalue())


def arrays_of(people: People, image: Image) -> dict[str, ndarray]:
    """The fields of `People` that are known, and `image_size`: width and height of the picture."""
    size = np.array([image.shape[1], image.shape[0]])
    told = {name: value for name, value in asdict(people).items() if value is not None}
    return {name: np.asarray(value) for name, value in told.items()} | {"image_size": size}
