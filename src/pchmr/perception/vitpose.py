"""ViTPose through transformers: the 17 COCO keypoints."""

from pathlib import Path

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from transformers import VitPoseForPoseEstimation

from pchmr.body.joints import COCO_17
from pchmr.perception.crops import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    Crop,
    find_keypoints,
    mirror_rows,
)
from pchmr.perception.interfaces import (
    Box,
    Image,
    Provenance,
    weights_sha256,
)
from pchmr.perception.pretrained import load_pretrained

COCO_EXPERT = 0


class VitPose:
    """Plain weights, and mixture-of-experts weights with their COCO expert."""

    names = COCO_17.names

    def __init__(self, weights: Path) -> None:
        self.model = load_pretrained(
            "vitpose", VitPoseForPoseEstimation, weights, num_labels=len(self.names)
        )
        backbone = self.model.config.backbone_config
        self.height, self.width = backbone.image_size
        self.has_experts = getattr(backbone, "num_experts", 1) > 1
        self.provenance = Provenance(
            name="vitpose", license="Apache-2.0", sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        crop = Crop.around(box, self.width, self.height, aligned=True)
        return find_keypoints(
            self._heatmaps,
            image,
            crop,
            mirror_rows(self.names),
            mean=IMAGENET_MEAN,
            sd=IMAGENET_SD,
        )

    def _heatmaps(self, pixels: Tensor) -> Tensor:
        experts = torch.full((len(pixels),), COCO_EXPERT)
        more = {"dataset_index": experts} if self.has_experts else {}
        return self.model(pixel_values=pixels, **more).heatmaps
