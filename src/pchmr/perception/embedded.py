"""The embedded prior: our own small network, shipped with the package; pictures alone suffice.

It was trained on rendered people only (see its card beside the weights), so it is a start for
everyone and no rival of a foundation model. `detection` makes a detector of it.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.perception.crops import Crop, mirror_rows
from pchmr.perception.detection import LEAST_CONFIDENCE, load_presence
from pchmr.perception.interfaces import (
    Box,
    Image,
    PersonView,
    Provenance,
    weights_sha256,
)
from pchmr.perception.network import IMAGE_SIZE, NAMES, Seen, load_network

WEIGHTS = Path(__file__).parent / "assets" / "prior_v1.safetensors"
LICENSE = "Apache-2.0"
LEAST_APART = 0.01  # of half a crop
NEAR = 0.1  # of half a crop: what confidence is the probability of


class Embedded:
    """Keypoints with their spreads and relative depth, from one crop and its mirror image."""

    names = NAMES

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.network = load_network(weights)
        self.mirror = list(mirror_rows(self.names))
        self.presence = load_presence()
        self.provenance = Provenance(
            name="embedded", license=LICENSE, sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        return self.look(image, box).keypoints

    def look(self, image: Image, box: Box) -> PersonView:
        """See `PersonPrior`; confidence: the chance to lie within a twentieth of the crop."""
        crop = Crop.around(box, IMAGE_SIZE, IMAGE_SIZE)
        seen = self._see(image, crop)
        places, depths, place_spread, depth_spread = (v.double().numpy() for v in self._both(seen))
        confidence = 1 - np.exp(-NEAR / place_spread)
        confidence = np.where(confidence < LEAST_CONFIDENCE, 0.0, confidence)
        found = crop.corner + (places + 1) / 2 * crop.size
        return PersonView(
            keypoints=np.concatenate([found, confidence[:, None]], axis=-1),
            sigma=np.sqrt(2) * place_spread * crop.size[0] / 2,
            depth=depths,
            depth_sigma=np.sqrt(2) * depth_spread,
            presence=self.presence.chance(self._signals(seen)),
        )

    def signals(self, image: Image, box: Box) -> Float[ndarray, "3"]:
        """What `Presence` judges a crop by."""
        return self._signals(self._see(image, Crop.around(box, IMAGE_SIZE, IMAGE_SIZE)))

    def _see(self, image: Image, crop: Crop) -> Seen:
        """What the network says of a crop and of its mirror image."""
        pixels = crop.cut(image)[None] / 255
        with torch.inference_mode():
            return self.network(torch.cat([pixels, pixels.flip(-1)]))

    def _signals(self, seen: Seen) -> Float[ndarray, "3"]:
        """Mean confidence, mean entropy of the maps, log distance between the mirrored places."""
        confidence = 1 - np.exp(-NEAR / self._both(seen)[2].double().numpy())
        log_share = seen.maps.flatten(start_dim=2).log_softmax(dim=-1)
        entropy = -(log_share.exp() * log_share).sum(dim=-1).mean()
        turned = seen.places[1][self.mirror] * torch.tensor([-1.0, 1.0])
        apart = (seen.places[0] - turned).norm(dim=-1).median()
        return np.array([confidence.mean(), float(entropy), np.log(float(apart) + LEAST_APART)])

    def _both(self, seen: Seen) -> tuple[torch.Tensor, ...]:
        """Means over the crop and its mirror image, turned back."""
        sign = torch.tensor([-1.0, 1.0])
        values = (seen.places, seen.depths, seen.place_spread, seen.depth_spread)
        turned = [value[1][self.mirror] for value in values]
        turned[0] = turned[0] * sign
        return tuple((v[0] + t) / 2 for v, t in zip(values, turned, strict=True))
