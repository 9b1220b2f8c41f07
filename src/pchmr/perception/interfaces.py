"""What every prior gives, whatever network stands behind it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from pchmr.config import SettingError
from pchmr.runs import file_sha256

DepthKind = Literal["metric", "relative", "affine", "affine_disparity"]
Image = UInt8[ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a prior's word comes from: goes into every label.

    Attributes:
        name: Key in `PRIORS`.
        license: Tag of the weights' licence.
        sha256: Of the weights' files.
        version: Of what handed them out, where it has one.
    """

    name: str
    license: str
    sha256: str
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Box:
    """A person's box in pixels of the picture."""

    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> Float[ndarray, "2"]:
        """Its middle."""
        return np.array([self.x + self.width / 2, self.y + self.height / 2])

    @property
    def bbox_xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True, kw_only=True)
class DepthMap:
    """Depth of a picture, pixel by pixel; NaN where the model says nothing.

    Attributes:
        kind: Relation to metres.
        depth: At every pixel.
        focal_length: Pixels, where the model gives it.
    """

    kind: DepthKind
    depth: Float[ndarray, "height width"]
    focal_length: float | None = None


@runtime_checkable
class KeypointPrior(Protocol):
    """Finds named keypoints of the person in a box."""

    names: tuple[str, ...]
    provenance: Provenance

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """Pixels of the picture (the middle of the first is 0.5) and confidence in [0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class PersonView:
    """What a prior that knows its own errors says of a person.

    Attributes:
        keypoints: Pixels of the picture and confidence in [0, 1].
        sigma: Standard deviation of a coordinate, pixels.
        depth: Metres about an unknown distance, of the surface in front of each keypoint.
        depth_sigma: Its standard deviation, metres.
        presence: Chance that there is a person at all.
    """

    keypoints: Float[ndarray, "keypoints 3"]
    sigma: Float[ndarray, " keypoints"]
    depth: Float[ndarray, " keypoints"]
    depth_sigma: Float[ndarray, " keypoints"]
    presence: float


@runtime_checkable
class PersonPrior(KeypointPrior, Protocol):
    """Finds keypoints, and says how sure it is and how deep they lie."""

    def look(self, image: Image, box: Box) -> PersonView:
        """The person in the box."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Finds people."""

    def detect(self, image: Image) -> list[Box]:
        """Boxes of people, the surest first."""
        ...

    def shows(self, image: Image, box: Box) -> bool:
        """Whether a person is in the box."""
        ...


@runtime_checkable
class DepthPrior(Protocol):
    """Sees how far away things are."""

    provenance: Provenance

    def depth(self, image: Image, box: Box) -> DepthMap:
        """Depth of the picture around the person in the box."""
        ...


def weights_sha256(path: Path) -> str:
    """Hash of a weights file, or of all files of a folder by name."""
    if path.is_file():
        return file_sha256(path)
    import hashlib

    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def require_channels(name: str, found: int, wanted: int) -> None:
    """Refuses weights whose output has other keypoints than the adapter declares.

    Raises:
        SettingError: The numbers differ.
    """
    if found != wanted:
        raise SettingError(
            f"weights of {name} give {found} keypoints, expected {wanted}: they belong to another "
            "model, or were trained on another set"
        )
