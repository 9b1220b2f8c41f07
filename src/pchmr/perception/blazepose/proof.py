"""Whether a find is a person at all, by four words that are weighed together.

The detector, the person flag, the flag of the mirror image, and how alike the two poses are: of a
cat, a cup or a motorcycle some agree, rarely all. `pchmr.workshop.proof` weighs them on people in
rendered crowds and on pictures without people.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.body.joints import mirror_name
from pchmr.perception.blazepose.landmarks import LIMBS, NAMES, Landmarks
from pchmr.perception.detection import LEAST_CONFIDENCE, LEAST_SEEN, Presence, load_presence
from pchmr.perception.people import SeenPerson, similarity

PROOF = Path(__file__).parents[1] / "assets" / "proof_v1.json"
SIGNALS = ("detected", "present", "present in the mirror", "pose in the mirror")
MIRROR = tuple(NAMES.index(mirror_name(name)) for name in NAMES)
LIMB_ROWS = [NAMES.index(name) for name in LIMBS]


def load_proof() -> Presence:
    """The shipped weights of `signals`."""
    return load_presence(PROOF)


def signals(person: SeenPerson, mirrored: Landmarks, width: int) -> Float[ndarray, "4"]:
    """What speaks for a person, in the order of `SIGNALS`.

    Args:
        person: As seen.
        mirrored: The same crop of the mirror image.
        width: Of the picture, pixels.
    """
    points = mirrored.points[list(MIRROR), :2] * [-1, 1] + [width, 0]
    seen = [row for row in LIMB_ROWS if person.keypoints[row, 2] > LEAST_CONFIDENCE]
    rows = seen if len(seen) >= LEAST_SEEN else LIMB_ROWS
    size = (person.box.width * person.box.height) ** 0.5
    pose = similarity(person.keypoints[rows, :2], points[rows], size)
    return np.array([person.detected, person.presence, mirrored.presence, pose])
