"""One person from one crop of an image by the network; who is where is told by others."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.config import DivergedError
from pchmr.data.crops import Box, Square, check_box, crop, square_around, whole_image
from pchmr.data.errors import InputError
from pchmr.geometry import project_weak_perspective
from pchmr.losses.target import about_hips

Pixels = UInt8[np.ndarray, "height width 3"]
NUM_RECROPS = 2
MIN_CAMERA_SCALE = 0.05  # half crops a metre: below, the mesh is a dot and its square is no guess


@dataclass(frozen=True, kw_only=True)
class Person:
    """What the network says about one crop, on the CPU.

    Attributes:
        vertices: Mesh in metres, camera axes, about the middle of the hips.
        joints: Evaluation joints in the same frame.
        camera: Weak perspective (s, tx, ty) of the crop.
        square: The crop in the image.
    """

    vertices: Float[Tensor, "vertices 3"]
    joints: Float[Tensor, "14 3"]
    camera: Float[Tensor, "3"]
    square: Square


@dataclass(frozen=True)
class Predictor:
    """A model in evaluation mode, and how it is used.

    Attributes:
        model: From crops to meshes.
        body: Whose vertices it predicts.
        image_size: Side of its crops.
    """

    model: nn.Module
    body: BodyModel
    image_size: int

    @torch.inference_mode()
    def look(self, image: Pixels, square: Square) -> Person:
        """The person in one square of an image.

        Raises:
            DivergedError: The network's answer is not finite.
        """
        pixels = crop(image, square, self.image_size).to(self.body.v_template.device)
        output = self.model(pixels[None])
        if not bool(output.vertices.isfinite().all() and output.camera.isfinite().all()):
            raise DivergedError(
                "the network's answer is not finite: its weights have diverged; give others with "
                "--checkpoint"
            )
        joints = output.joints
        if self.body.has_regressor(EVALUATION_14):
            joints = self.body.regress(output.vertices, EVALUATION_14)
        centred = about_hips(joints)
        origin = (joints - centred)[:, :1]
        return Person(
            vertices=(output.vertices - origin)[0].float().cpu(),
            joints=centred[0].float().cpu(),
            camera=output.camera[0].float().cpu(),
            square=square,
        )

    def search(self, image: Pixels) -> Person:
        """The whole of an image, then the square around the mesh seen so far, twice."""
        height, width = image.shape[:2]
        person = self.look(image, whole_image(width, height))
        for _ in range(NUM_RECROPS):
            square = square_of(person, width, height)
            if square is None:
                break
            person = self.look(image, square)
        return person

    def predict(self, image: Pixels, bbox_xyxy: Box | None = None) -> Person:
        """The person in a box of an image, or of the whole of it.

        Raises:
            InputError: The box is too small to use or outside the image.
        """
        if bbox_xyxy is None:
            return self.search(image)
        check_box(bbox_xyxy, image.shape[1], image.shape[0])
        return self.look(image, square_around(bbox_xyxy))


def square_of(person: Person, width: int, height: int) -> Square | None:
    """The square around the projected mesh; None where it is of no use as the next crop."""
    if not float(person.camera[0]) >= MIN_CAMERA_SCALE:
        return None
    seen = project_weak_perspective(person.vertices, person.camera)
    seen = seen * person.square.side / 2 + seen.new_tensor([person.square.x, person.square.y])
    (left, top), (right, bottom) = seen.amin(dim=0).tolist(), seen.amax(dim=0).tolist()
    try:
        check_box((left, top, right, bottom), width, height)
    except InputError:
        return None
    return square_around((left, top, right, bottom))
