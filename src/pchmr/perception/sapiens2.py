"""Sapiens2 through transformers: 308 keypoints, and a metric point map with its focal length.

Weights are a local folder as `save_pretrained` writes it. The Sapiens2 License bars surveillance
and biometric processing; its tag goes into every label.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from transformers import Sapiens2ForPointmapEstimation, Sapiens2ForPoseEstimation

from pchmr.perception.crops import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    Crop,
    find_keypoints,
    mirror_rows,
    normalized,
)
from pchmr.perception.interfaces import (
    Box,
    DepthMap,
    Image,
    Provenance,
    weights_sha256,
)
from pchmr.perception.names import GOLIATH_70, NUM_SAPIENS
from pchmr.perception.pretrained import load_pretrained

LICENSE = "Sapiens2 License"


class Sapiens2Pose:
    """The first 70 of the 308 keypoints: body, feet, hands, neck."""

    names = GOLIATH_70

    def __init__(self, weights: Path) -> None:
        self.model = load_pretrained(
            "sapiens2-pose", Sapiens2ForPoseEstimation, weights, num_labels=NUM_SAPIENS
        )
        self.height, self.width = self.model.config.image_size
        self.provenance = Provenance(
            name="sapiens2-pose", license=LICENSE, sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        crop = Crop.around(box, self.width, self.height, aligned=True)
        return find_keypoints(
            lambda pixels: self.model(pixel_values=pixels).heatmaps,
            image,
            crop,
            mirror_rows(self.names),
            mean=IMAGENET_MEAN,
            sd=IMAGENET_SD,
        )


class Sapiens2Pointmap:
    """Metric depth; the network's scale s also tells the focal length, width / s of its frame."""

    def __init__(self, weights: Path) -> None:
        self.model = load_pretrained(
            "sapiens2-pointmap", Sapiens2ForPointmapEstimation, weights, num_labels=3
        )
        self.height, self.width = self.model.config.image_size
        self.provenance = Provenance(
            name="sapiens2-pointmap", license=LICENSE, sha256=weights_sha256(weights)
        )

    def depth(self, image: Image, box: Box) -> DepthMap:
        """See `DepthPrior`; the whole picture is seen, the box is not needed."""
        crop = Crop.whole(image, self.width, self.height, keep_aspect=True)
        with torch.inference_mode():
            pixels = normalized(crop.cut(image), IMAGENET_MEAN, IMAGENET_SD)
            found = self.model(pixel_values=pixels)
        scale = 1.0 if found.scales is None else float(found.scales.reshape(-1)[0])
        z = found.pointmaps[0, 2].double().numpy() / scale
        depth = crop.paste(np.where(z > 0, z, np.nan), image.shape[:2])
        focal = None if found.scales is None else self.width / scale * float(crop.scale[0])
        return DepthMap(kind="metric", depth=depth, focal_length=focal)
