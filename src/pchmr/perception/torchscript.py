"""Sapiens v1 from its TorchScript files: keypoints, and depth up to scale and shift."""

from pathlib import Path

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.body.joints import COCO_17
from pchmr.config import SettingError
from pchmr.door import FileError
from pchmr.door.archives import opened_archive
from pchmr.door.limits import MODEL_BYTES
from pchmr.perception.crops import Crop, find_keypoints, mirror_rows, normalized
from pchmr.perception.interfaces import Box, DepthMap, Image, Provenance, weights_sha256
from pchmr.perception.names import GOLIATH_70, NUM_SAPIENS

LICENSE = "CC-BY-NC-4.0"
WIDTH, HEIGHT = 768, 1024
MEAN, SD = (123.5, 116.5, 103.5), (58.5, 57.0, 57.5)
NAMES_BY_COUNT = {len(COCO_17): COCO_17.names, NUM_SAPIENS: GOLIATH_70}


def load_script(weights: Path) -> torch.jit.ScriptModule:
    """A TorchScript file in evaluation mode.

    Raises:
        SettingError: It is none.
    """
    try:
        with opened_archive(weights, MODEL_BYTES):
            pass
        return torch.jit.load(str(weights), map_location="cpu").eval()
    except FileError as error:
        raise SettingError(
            f"{weights} is no TorchScript file: {error.reason}; get the file again"
        ) from None
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise SettingError(f"{weights} is no TorchScript file: {first}") from None


def run_script(model: torch.jit.ScriptModule, pixels: Tensor, weights: Path) -> Tensor:
    """The maps (1, C, h, w) that a TorchScript file gives for a batch of one.

    Raises:
        SettingError: It cannot be run on a picture, or gives something else.
    """
    try:
        with torch.inference_mode():
            found = model(pixels)
    except (RuntimeError, ValueError, TypeError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise SettingError(
            f"{weights} cannot be run on a picture of {WIDTH} x {HEIGHT}: {words[-1].strip()}; "
            "take the publisher's TorchScript file for this task"
        ) from None
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != 1:
        raise SettingError(
            f"{weights} gives {shape}, expected maps (1, channels, height, width): take the "
            "publisher's TorchScript file for this task"
        )
    return found


class Sapiens1Pose:
    """The 17 COCO keypoints, or the first 70 of 308, as the weights have them."""

    def __init__(self, weights: Path) -> None:
        self.model = load_script(weights)
        self.weights = weights
        count = run_script(self.model, torch.zeros(1, 3, HEIGHT, WIDTH), weights).shape[1]
        if count not in NAMES_BY_COUNT:
            known = ", ".join(str(n) for n in NAMES_BY_COUNT)
            raise SettingError(
                f"weights of sapiens1-pose give {count} keypoints, expected one of {known}: take "
                "the COCO-17 or the 308 keypoint file"
            )
        self.names: tuple[str, ...] = NAMES_BY_COUNT[count]
        self.provenance = Provenance(
            name="sapiens1-pose", license=LICENSE, sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        crop = Crop.around(box, WIDTH, HEIGHT, aligned=True)
        rows = mirror_rows(self.names)
        return find_keypoints(
            lambda pixels: run_script(self.model, pixels, self.weights),
            image,
            crop,
            rows,
            mean=MEAN,
            sd=SD,
        )


class Sapiens1Depth:
    """Depth of the person in the box up to scale and shift; larger is farther."""

    def __init__(self, weights: Path) -> None:
        self.model, self.weights = load_script(weights), weights
        self.provenance = Provenance(
            name="sapiens1-depth", license=LICENSE, sha256=weights_sha256(weights)
        )

    def depth(self, image: Image, box: Box) -> DepthMap:
        """See `DepthPrior`; meaningless beside the person, where only a mask would tell."""
        crop = Crop.around(box, WIDTH, HEIGHT)
        found = run_script(self.model, normalized(crop.cut(image), MEAN, SD), self.weights)
        if found.shape[1] != 1:
            raise SettingError(
                f"weights of sapiens1-depth give {found.shape[1]} maps, expected one: take the "
                "depth file, not that of another task"
            )
        values = found[0, 0].double().numpy()
        return DepthMap(kind="affine", depth=crop.paste(values, image.shape[:2]))
