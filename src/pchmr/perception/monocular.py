"""Depth of whole pictures through transformers: Depth Anything and Depth Pro."""

import math
from pathlib import Path

import numpy as np
import torch
from transformers import DepthAnythingForDepthEstimation, DepthProForDepthEstimation

from pchmr.perception.crops import IMAGENET_MEAN, IMAGENET_SD, Crop, normalized
from pchmr.perception.interfaces import Box, DepthKind, DepthMap, Image, Provenance, weights_sha256
from pchmr.perception.pretrained import load_pretrained

HALF = (127.5, 127.5, 127.5)
NEAREST_INVERSE = 1e-4


class DepthAnything:
    """Disparity up to scale and shift, or metres, as the weights' config says."""

    def __init__(self, weights: Path) -> None:
        self.model = load_pretrained("depth-anything", DepthAnythingForDepthEstimation, weights)
        config = self.model.config
        side = config.backbone_config.image_size
        self.side = side if isinstance(side, int) else min(side)
        self.patch = config.backbone_config.patch_size
        metric = config.depth_estimation_type == "metric"
        self.kind: DepthKind = "metric" if metric else "affine_disparity"
        self.provenance = Provenance(
            name="depth-anything",
            license="see the weights' card (Apache-2.0 or CC-BY-NC-4.0)",
            sha256=weights_sha256(weights),
        )

    def depth(self, image: Image, box: Box) -> DepthMap:
        """See `DepthPrior`; the shorter side is scaled to the network's, both to whole patches."""
        shorter = min(image.shape[:2])
        height, width = (
            max(self.patch, round(n * self.side / shorter / self.patch) * self.patch)
            for n in image.shape[:2]
        )
        crop = Crop.whole(image, width, height, keep_aspect=False)
        with torch.inference_mode():
            pixels = normalized(crop.cut(image), IMAGENET_MEAN, IMAGENET_SD)
            found = self.model(pixel_values=pixels).predicted_depth[0].double().numpy()
        return DepthMap(kind=self.kind, depth=crop.paste(found, image.shape[:2]))


class DepthPro:
    """Metres, and the focal length from the field of view that the network sees."""

    def __init__(self, weights: Path) -> None:
        self.model = load_pretrained("depth-pro", DepthProForDepthEstimation, weights)
        config = self.model.config
        self.side = int(config.patch_size / min(config.scaled_images_ratios))
        self.provenance = Provenance(
            name="depth-pro", license="apple-amlr", sha256=weights_sha256(weights)
        )

    def depth(self, image: Image, box: Box) -> DepthMap:
        """See `DepthPrior`; without a field-of-view head the depth is disparity up to scale."""
        crop = Crop.whole(image, self.side, self.side, keep_aspect=False)
        with torch.inference_mode():
            found = self.model(pixel_values=normalized(crop.cut(image), HALF, HALF))
        inverse = crop.paste(found.predicted_depth[0].double().numpy(), image.shape[:2])
        if found.field_of_view is None:
            return DepthMap(kind="affine_disparity", depth=inverse)
        width = image.shape[1]
        angle = math.radians(float(found.field_of_view.reshape(-1)[0]))
        focal = 0.5 * width / math.tan(angle / 2)
        depth = 1 / np.maximum(inverse * width / focal, NEAREST_INVERSE)
        return DepthMap(kind="metric", depth=depth, focal_length=focal)
