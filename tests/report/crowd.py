"""People drawn small, as a data set, and a model that knows them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.data.crops import centred_intrinsics
from pchmr.data.sample import Sample

SIDE = 32
NUM_PEOPLE = 7


def people(body: BodyModel) -> tuple[Sample, Tensor]:
    """A standing row of turned people before one camera, and their meshes."""
    turn = torch.linspace(-0.5, 0.5, NUM_PEOPLE)
    sample = Sample(
        images=torch.rand(NUM_PEOPLE, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
        keypoints_2d=torch.zeros(NUM_PEOPLE, 14, 3),
        joints=torch.zeros(NUM_PEOPLE, 14, 4),
        global_orient=torch.stack([torch.full_like(turn, 3.1), turn * 0, turn], dim=1),
        body_pose=torch.zeros(NUM_PEOPLE, 23, 3),
        betas=torch.zeros(NUM_PEOPLE, 10),
        transl=torch.tensor([0.0, 0.0, 3.0]).expand(NUM_PEOPLE, 3),
        intrinsics=centred_intrinsics(1.5 * SIDE, SIDE, SIDE).expand(NUM_PEOPLE, 3, 3),
        has_smpl=torch.ones(NUM_PEOPLE, dtype=torch.bool),
        has_joints=torch.ones(NUM_PEOPLE, dtype=torch.bool),
        has_keypoints_2d=torch.ones(NUM_PEOPLE, dtype=torch.bool),
        index=torch.arange(NUM_PEOPLE),
    )
    upright = body(sample.global_orient, sample.body_pose, sample.betas, sample.transl * 0)
    return sample, upright.vertices


class Crowd:
    """The people as a data set."""

    image_size, content_hash, is_private = SIDE, "crowd", False
    columns: dict[str, np.ndarray]

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.columns = {}

    def __len__(self) -> int:
        return len(self.sample)

    def batch(self, indices: Any) -> Sample:
        rows = torch.as_tensor(np.asarray(indices))
        return self.sample.taken(rows)


class Seer(nn.Module):
    """A model that knows the meshes of the people by their pictures."""

    def __init__(self, images: Tensor, vertices: Tensor) -> None:
        super().__init__()
        self.images, self.vertices = images, vertices

    def forward(self, images: Tensor) -> SimpleNamespace:
        apart = (images[:, None] - self.images).abs().sum(dim=(2, 3, 4))
        camera = torch.tensor([1.0, 0.0, 0.0]).expand(len(images), 3)
        return SimpleNamespace(vertices=self.vertices[apart.argmin(dim=1)], camera=camera)
