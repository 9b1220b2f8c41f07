"""How real rendered people look to a network that has seen photos: does it find them, and where.

A gauge of pictures, not of the network: labels are exact, and no rendered person taught it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.body.joints import EVALUATION_14
from pchmr.perception.interfaces import Image
from pchmr.perception.people import LIMBS, SeenPerson

NEAR = 0.1  # of the longer side of the box around the person
LEAST_OVERLAP = 0.3  # intersection over union of boxes from which a find is the person
LABELED = EVALUATION_14.indices(LIMBS)
Finder = Callable[[Image], list[SeenPerson]]


@dataclass(frozen=True)
class Realism:
    """Scores of a set of pictures of one person each.

    Attributes:
        num_people: Pictures.
        found: Share of people who were found.
        pck: Share of limb joints inside the picture within a tenth of the person's size, of those
            who were found; NaN where nobody was.
        extra: Finds that are not the person, per picture.
    """

    num_people: int
    found: float
    pck: float
    extra: float


def realism(
    find: Finder,
    names: Sequence[str],
    pictures: Iterable[tuple[Image, Float[ndarray, "14 3"]]],
) -> Realism:
    """Asks a network about pictures.

    Args:
        find: From a picture to the people in it.
        names: Of the network's keypoints.
        pictures: Each with the evaluation joints of its one person, in pixels; the last column is
            above zero where a joint lies inside.
    """
    columns = [list(names).index(name) for name in LIMBS]
    shares, near, extra = [], [], 0
    for image, truth in pictures:
        people = find(image)
        person = of_truth(people, truth)
        shares.append(person is not None)
        extra += len(people) - (person is not None)
        if person is not None:
            near += _near(person.keypoints[columns, :2], truth).tolist()
    count = len(shares)
    pck = float(np.mean(near)) if near else float("nan")
    return Realism(count, float(np.mean(shares)) if count else 0.0, pck, extra / max(count, 1))


def of_truth(people: Sequence[SeenPerson], truth: Float[ndarray, "14 3"]) -> SeenPerson | None:
    """The find that covers the labeled person best; None where none does well enough."""
    inside = truth[truth[:, 2] > 0, :2]
    if not len(inside):
        return None
    low, high = inside.min(axis=0), inside.max(axis=0)
    overlaps = [_overlap(person, low, high) for person in people]
    best = int(np.argmax(overlaps)) if overlaps else 0
    return people[best] if overlaps and overlaps[best] >= LEAST_OVERLAP else None


def _overlap(person: SeenPerson, low: ndarray, high: ndarray) -> float:
    box = person.box
    corner, end = np.array([box.x, box.y]), np.array([box.x + box.width, box.y + box.height])
    shared = (np.minimum(end, high) - np.maximum(corner, low)).clip(0).prod()
    union = box.width * box.height + (high - low).prod() - shared
    return float(shared / max(union, 1e-9))


def _near(found: Float[ndarray, "limbs 2"], truth: Float[ndarray, "14 3"]) -> ndarray:
    inside = truth[truth[:, 2] > 0, :2]
    size = float((inside.max(axis=0) - inside.min(axis=0)).max())
    limbs = truth[list(LABELED)]
    apart = np.linalg.norm(found - limbs[:, :2], axis=-1)
    return apart[limbs[:, 2] > 0] <= NEAR * size
