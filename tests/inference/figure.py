"""Red boxes as people, and a model that stretches an upright body over the red it sees."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from pchmr.body import BodyModel

HEIGHT, WIDTH = 160, 240


def picture(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A dark image with a red box."""
    image = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = (250, 30, 30)
    return image


class RedModel(nn.Module):
    """Puts the upright mean body over the red pixels of a crop; a camera of 0 where none are."""

    image_size = 64

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.body = body
        zeros = torch.zeros(1, 3)
        upright = torch.tensor([[torch.pi, 0.0, 0.0]])
        pose = torch.zeros(1, len(body.parents) - 1, 3)
        self.vertices = body(upright, pose, torch.zeros(1, body.num_betas), zeros).vertices
        self.joints = torch.zeros(1, 14, 3)
        self.num_looks = 0

    def forward(self, images: Tensor) -> SimpleNamespace:
        self.num_looks += 1
        red = (images[0, 0] - images[0, 1] > 0.4).nonzero().float()
        camera = torch.zeros(1, 3)
        if len(red):
            low, high = red.amin(dim=0), red.amax(dim=0) + 1
            low, high = 2 * low / self.image_size - 1, 2 * high / self.image_size - 1
            mesh_low = self.vertices[0].amin(dim=0)
            mesh_high = self.vertices[0].amax(dim=0)
            scale = float((high - low)[0] / (mesh_high - mesh_low)[1])
            middle = (mesh_low + mesh_high)[:2] / 2
            camera[0, 0] = scale
            camera[0, 1:] = ((low + high) / 2).flip(0) / scale - middle
        return SimpleNamespace(vertices=self.vertices + 0.3, joints=self.joints, camera=camera)
