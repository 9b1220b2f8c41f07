"""What a picture of a person is to every other room, and the one place where units are stated.

Units: metres, radians, pixels. Camera frame: x right, y down, z forward. Images: float RGB in
[0, 1], batch first. Crop coordinates: [-1, 1] over the crop, x right, y down. Millimetres appear
only in scores and tables.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.files import GENDERS


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A batch of people, one a crop; a single person is a batch of one.

    Attributes:
        images: RGB in [0, 1].
        keypoints_2d: Evaluation joints in crop coordinates [-1, 1], then confidence.
        joints: Evaluation joints in metres, camera frame, about their own root, then confidence.
        global_orient: Root rotation in the camera frame, rotation vector.
        body_pose: 23 local rotations, rotation vectors.
        betas: Shape coefficients.
        transl: Body translation in the camera frame, metres.
        intrinsics: Pinhole camera of the crop, pixels of the crop.
        has_smpl: Whether pose, shape and so vertices are known.
        has_joints: Whether `joints` is known.
        has_keypoints_2d: Whether `keypoints_2d` is known.
        index: Row in the data set the sample came from.
        gender: Whose body makes the mesh, by its place in `GENDERS`; None is the neutral one's.
    """

    images: Float[Tensor, "batch 3 height width"]
    keypoints_2d: Float[Tensor, "batch 14 3"]
    joints: Float[Tensor, "batch 14 4"]
    global_orient: Float[Tensor, "batch 3"]
    body_pose: Float[Tensor, "batch 23 3"]
    betas: Float[Tensor, "batch 10"]
    transl: Float[Tensor, "batch 3"]
    intrinsics: Float[Tensor, "batch 3 3"]
    has_smpl: Bool[Tensor, " batch"]
    has_joints: Bool[Tensor, " batch"]
    has_keypoints_2d: Bool[Tensor, " batch"]
    index: Int[Tensor, " batch"]
    gender: Int[Tensor, " batch"] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "Sample":
        """The same sample on a device."""
        return Sample(**{name: values.to(device) for name, values in self._known().items()})

    def taken(self, rows: Int[Tensor, " rows"]) -> "Sample":
        """Some of the people, in that order."""
        return Sample(**{name: values[rows] for name, values in self._known().items()})

    @classmethod
    def joined(cls, samples: Sequence["Sample"]) -> "Sample":
        """The people of all samples."""
        if any(sample.gender is not None for sample in samples):
            samples = [
                sample
                if sample.gender is not None
                else replace(sample, gender=torch.zeros_like(sample.index))
                for sample in samples
            ]
        names = samples[0]._known()
        return cls(**{name: torch.cat([getattr(s, name) for s in samples]) for name in names})

    def _known(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "gender"} | (
            {} if self.gender is None else {"gender": self.gender}
        )


def gender_codes(genders: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Places of genders in `GENDERS`."""
    return np.array([GENDERS.index(str(gender)) for gender in genders.tolist()], dtype=np.int64)


def mesh_of(
    sample: Sample, body: BodyModel, *, placed: bool = True
) -> Float[Tensor, "batch vertices 3"]:
    """Vertices that labels give, each on the body of its gender, axes of the camera.

    Placed ones stand where the labels say, others at the origin.
    """
    labels = (sample.global_orient, sample.body_pose, sample.betas)
    labels += (sample.transl,) if placed else ()
    if sample.gender is None:
        return body(*labels).vertices
    found = body.v_template.new_empty(len(sample), *body.v_template.shape)
    for code in sample.gender.unique().tolist():
        rows = sample.gender == code
        found[rows] = body.of(GENDERS[code])(*(values[rows] for values in labels)).vertices
    return found


@runtime_checkable
class PeopleDataset(Protocol):
    """Random access to people by row; every data set of the package is one of these.

    `columns` holds one value a row for each of the names in `COLUMNS`; partitions and splits are
    made from them. `content_hash` changes when any picture or label would. `is_private` people
    stood before a camera: whatever is derived from them keeps that.
    """

    @property
    def is_private(self) -> bool:
        """Whether these are pictures of people; rendered ones are not, licensed ones are."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels."""
        ...

    @property
    def content_hash(self) -> str:
        """Changes when any picture or label would."""
        ...

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """One value a row for each of the names in `COLUMNS`."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order, without augmentation."""
        ...


@runtime_checkable
class RenewedPeople(PeopleDataset, Protocol):
    """People that are others in every epoch of training."""

    def of_epoch(self, epoch: int) -> PeopleDataset:
        """The people of an epoch, counted from 0; the same ones whenever it is asked."""
        ...


COLUMNS = ("subject", "scene", "action", "clip", "frame")


class Origin(TypedDict):
    """What a result carries about rendered people: version, and the hash of each domain's world."""

    version: int
    worlds: dict[str, str]


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, as a data set."""

    dataset: PeopleDataset
    rows: np.ndarray

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels."""
        return self.dataset.image_size

    @property
    def content_hash(self) -> str:
        """The hash of the whole data set and of the rows taken."""
        rows = np.ascontiguousarray(self.rows, dtype="<i8").tobytes()
        return hashlib.sha256(self.dataset.content_hash.encode() + rows).hexdigest()

    @property
    def is_private(self) -> bool:
        """That of the whole data set."""
        return self.dataset.is_private

    @property
    def stored_bytes(self) -> int:
        """Share of the stored pictures and labels that the rows taken make up."""
        whole = getattr(self.dataset, "stored_bytes", 0)
        return round(whole * len(self.rows) / max(len(self.dataset), 1))

    @property
    def origin(self) -> Origin | None:
        """Recipe of the whole data set, None where it is not rendered."""
        return getattr(self.dataset, "origin", None)

    @property
    def about(self) -> Mapping[str, str]:
        """What an imported data set says of itself; nothing of others."""
        return getattr(self.dataset, "about", {})

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the rows taken."""
        return {name: column[self.rows] for name, column in self.dataset.columns.items()}

    def detail(self, name: str) -> np.ndarray:
        """What an imported data set keeps of every row besides its sample."""
        return self.dataset.detail(name)[self.rows]  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, counted within the subset."""
        return self.dataset.batch(self.rows[np.asarray(indices)])

    def wide_batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """`wide_batch` of the rows asked for."""
        return wide_batch(self.dataset, self.rows[np.asarray(indices)])


def wide_batch(people: PeopleDataset, indices: Sequence[int] | np.ndarray) -> Sample:
    """A batch whose pictures go beyond the crops' edges where a data set stores more; labels, and
    so coordinates and camera, are those of the crop in their middle.
    """
    own = getattr(people, "wide_batch", None)
    return people.batch(indices) if own is None else own(indices)
