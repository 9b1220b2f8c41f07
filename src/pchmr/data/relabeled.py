"""People with other labels than their own, and people at another size: views of a data set.

What a label says of a crop is put in place of what the data set knows, so that nothing of the truth
reaches a model that learns from labels. Nothing here labels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.sample import PeopleDataset, Sample, Subset
from pchmr.geometry import centered, project_pinhole

PARAMETERS = ("global_orient", "body_pose", "betas", "transl")


@dataclass(frozen=True)
class Resized(Subset):
    """Some rows at another size of crop; 2D labels are shares of the crop and stay."""

    side: int = 0

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels."""
        return self.side

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, their pictures scaled without aliasing."""
        sample = super().batch(indices)
        scale = self.side / sample.images.shape[-1]
        if scale == 1:
            return sample
        images = F.interpolate(
            sample.images, (self.side, self.side), mode="bilinear", antialias=True
        )
        zoom = sample.intrinsics.new_tensor([[scale], [scale], [1.0]])
        return replace(sample, images=images.clamp(0, 1), intrinsics=sample.intrinsics * zoom)

    def wide_batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for: nothing beyond the edges is scaled."""
        return self.batch(indices)


def resized(dataset: PeopleDataset, image_size: int) -> PeopleDataset:
    """The data set itself where its crops have the size, else a view that scales them."""
    if dataset.image_size == image_size:
        return dataset
    return Resized(dataset, np.arange(len(dataset)), image_size)


class Relabeled:
    """Rows of a data set with an annotator's labels in place of the truth; see `PeopleDataset`.

    Attributes:
        image_size: Side of the crops in pixels.
        content_hash: Of the people, the rows and the labels.
        columns: Those of the people, and `predicted_error_mm`, `status` of each label.
        is_private: As the people are.
    """

    def __init__(
        self,
        people: PeopleDataset,
        rows: np.ndarray,
        labels: Mapping[str, np.ndarray],
        *,
        body: BodyModel,
        side: int,
    ) -> None:
        """Computes what the labels say of joints and keypoints.

        Args:
            people: Whose pictures are seen.
            rows: One for each label.
            labels: Arrays of the annotator, in the frame of the picture's own camera.
            body: Body that the labels were made with.
            side: Of the pictures that were labeled, pixels.
        """
        self._people, self._rows = people, np.asarray(rows, dtype=np.int64)
        self.image_size, self.is_private = people.image_size, people.is_private
        self._known = _as_seen(body, labels, side)
        zoom = torch.tensor([people.image_size / side, people.image_size / side, 1.0])[:, None]
        self._known["intrinsics"] = self._known["intrinsics"] * zoom
        own = {name: column[self._rows] for name, column in people.columns.items()}
        told = {name: np.asarray(labels[name]) for name in ("predicted_error_mm", "status")}
        self.columns = own | told
        digest = hashlib.sha256(people.content_hash.encode() + self._rows.astype("<i8").tobytes())
        for name in PARAMETERS:
            digest.update(np.ascontiguousarray(labels[name], dtype="<f4").tobytes())
        self.content_hash = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        place = torch.from_numpy(index)
        seen = self._people.batch(self._rows[index])
        known = {name: values[place] for name, values in self._known.items()}
        every = torch.ones(len(index), dtype=torch.bool)
        return replace(
            seen, **known, has_smpl=every, has_joints=every, has_keypoints_2d=every, index=place
        )


@torch.no_grad()
def _as_seen(body: BodyModel, labels: Mapping[str, np.ndarray], side: int) -> dict[str, Tensor]:
    """Parameters of labels, and the joints and keypoints that they give, as a sample holds them."""
    found = {name: torch.from_numpy(np.asarray(labels[name])).float() for name in PARAMETERS}
    camera = torch.from_numpy(np.asarray(labels["intrinsics"])).float()
    device = body.v_template.device
    joints = []
    for at in range(0, len(camera), 64):
        part = [values[at : at + 64].to(device) for values in found.values()]
        joints.append(body.regress(body(*part).vertices, EVALUATION_14).cpu())
    xyz: Float[Tensor, "batch 14 3"] = torch.cat(joints) if joints else torch.zeros(0, 14, 3)
    places = 2 * project_pinhole(xyz, camera) / side - 1
    inside = (places.abs() <= 1).all(dim=-1, keepdim=True)
    sure = torch.ones_like(xyz[..., :1])
    return {
        **found,
        "intrinsics": camera,
        "joints": torch.cat([centered(xyz, EVALUATION_14.root), sure], dim=-1),
        "keypoints_2d": torch.cat([places, inside], dim=-1),
    }
