"""Networks in small: one that sees red boxes as people, one that knows the people of a picture."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.kinematics import State, points, pose
from pchmr.body.joints import COCO_17, COCO_23
from pchmr.geometry import rotvec_to_rotmat
from pchmr.perception.detection import box_of
from pchmr.perception.interfaces import Box, Image, Provenance
from pchmr.perception.people import SeenPerson
from pchmr.perception.turned import TurnedCrop


class RedWatcher:
    """A `KeypointPrior` and a `Detector` of plain red boxes, of which it sees one in each half."""

    names = COCO_17.names
    provenance = Provenance(name="red", license="none", sha256="0")

    def detect(self, image: Image) -> list[Box]:
        """The red of the left half, and that of the right half."""
        half = image.shape[1] // 2
        found = [_red(image[:, :half], 0), _red(image[:, half:], half)]
        return [box for box in found if box is not None]

    def shows(self, image: Image, box: Box) -> bool:
        """Nobody is ever lost."""
        return True

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "17 3"]:
        """Points on a line from the box's top to its bottom."""
        share = np.linspace(0, 1, len(self.names))
        x = box.x + (0.3 + 0.4 * share) * box.width
        return np.stack([x, box.y + share * box.height, np.ones_like(share)], axis=-1)


def _red(image: Image, left: int) -> Box | None:
    rows, columns = np.nonzero(image[..., 0].astype(int) - image[..., 1] > 100)
    if not len(rows):
        return None
    (x, y), (right, bottom) = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    return Box(x=float(x + left), y=float(y), width=float(right - x), height=float(bottom - y))


@dataclass
class Knower:
    """A `PeoplePrior` that is told who is there: it sees their true joints, up to some noise."""

    shown: list[SeenPerson]
    names: tuple[str, ...] = COCO_23.names
    provenance: Provenance = field(
        default_factory=lambda: Provenance(name="knower", license="none", sha256="1")
    )

    def people(self, image: Image) -> list[SeenPerson]:
        """Whoever is there."""
        return self.shown

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "23 3"]:
        """Their points."""
        return self.see(image, box).keypoints

    def mirrored(self, image: Image, person: SeenPerson) -> Float[ndarray, "23 3"]:
        """The same: it makes no mistakes."""
        return person.world

    def see(self, image: Image, box: Box) -> SeenPerson:
        """Who is nearest to the box."""
        return min(self.shown, key=lambda one: float(np.hypot(*(one.box.center - box.center))))


def posed(
    annotator: Annotator,
    orient: tuple[float, float, float],
    place: tuple[float, float, float],
    seed: int = 0,
) -> Float[ndarray, "23 3"]:
    """COCO points of a person in some pose, metres before the camera."""
    generator = torch.Generator().manual_seed(seed)
    rotvec = annotator.prior.center + 0.2 * torch.randn(23, 3, generator=generator)
    root = torch.tensor(orient)[None]
    rotmat = rotvec_to_rotmat(torch.cat([root, rotvec]))[None]
    zero = torch.zeros(1, 2)
    state = State(rotmat, torch.zeros(1, 10), torch.tensor([place]), zero, zero[:, 0], zero)
    rig = annotator.points.rig.take(
        annotator.points.indices([f"coco:{name}" for name in COCO_23.names])
    )
    return points(rig, pose(annotator.skeleton, state), state.betas)[0].double().numpy()


def seen(joints: Float[ndarray, "23 3"], camera: Float[ndarray, "3 3"]) -> SeenPerson:
    """A person as a network that makes no mistakes sees them."""
    pixels = joints @ camera.T
    keypoints = np.concatenate([pixels[:, :2] / pixels[:, 2:], np.ones((len(joints), 1))], axis=-1)
    box = box_of(keypoints)
    assert box is not None
    hips = [COCO_23.index(name) for name in COCO_23.root_names]
    x, y = box.center
    cells = np.zeros((32, 32))
    cells[8:24, 8:24] = 1
    return SeenPerson(
        box=box,
        keypoints=keypoints,
        world=joints - joints[hips].mean(axis=0),
        presence=1.0,
        score=1.0,
        crop=TurnedCrop(float(x), float(y), 1.2 * max(box.width, box.height)),
        cells=cells,
    )
