"""Weighs what tells people from things for the photo-trained prior: `... workshop.proof FOLDER`.

The folder holds pictures without people: of animals, rooms, things, textures. People are those of
rendered crowds of validation people, whole and cut at the hips; benchmarks are on test people.
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.bench.crowds import DOMAINS, SAME, alike, crowds, rendered
from pchmr.body import load_body
from pchmr.data.photos import read_photo
from pchmr.data.pictures import find_pictures
from pchmr.data.synthetic.crowds import Crowd
from pchmr.perception.blazepose.painted import painted_over, places_of
from pchmr.perception.blazepose.places import places, wide_places
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.blazepose.proof import PROOF, SIGNALS
from pchmr.perception.detection import fit_presence
from pchmr.perception.interfaces import Image
from pchmr.perception.people import SeenPerson
from pchmr.runs import write_bytes
from pchmr.runs.hashes import record_shipped

SEED, SIZE, NUM_CROWDS = 0, 3, 6
CUT = 0.62  # of the height, where people end at the hips
MIDDLE = slice(1, 5)  # sixths of the width


def finds(prior: BlazePose, image: Image) -> Iterator[tuple[SeenPerson, Float[ndarray, " 4"]]]:
    """Whatever the networks take for somebody, and what speaks for it."""
    for find in (*places(prior.detector, image), *wide_places(prior.detector, image)):
        if person := prior.closer(image, find):
            yield prior.proven(image, person)


def of_people(prior: BlazePose) -> tuple[list[ndarray], list[ndarray]]:
    """Signals of people in crowds, and of what is nobody in them."""
    body, people, nobody = load_body(), [], []
    for domain in DOMAINS:
        shown = rendered(domain, SEED, body, "validation")
        for crowd in islice(crowds(shown, SIZE, SEED), NUM_CROWDS):
            for image in _views(prior, crowd):
                for person, signs in finds(prior, image):
                    best = max(alike(person, prior.names, truth) for truth in crowd.keypoints)
                    if best >= SAME:
                        people.append(signs)
                    elif best < SAME / 2:
                        nobody.append(signs)
    return people, nobody


def _views(prior: BlazePose, crowd: Crowd) -> Iterator[Image]:
    """A crowd whole, cut at the hips, and with those painted over who were found."""
    image = crowd.image
    yield image
    yield np.ascontiguousarray(image[: round(CUT * len(image))])
    if found := prior.people(image):
        yield painted_over(image, places_of(found, *image.shape[:2]))


def of_things(prior: BlazePose, folder: Path) -> Iterator[Float[ndarray, " 4"]]:
    """Signals of what is found in pictures without people, also mirrored, turned and cut."""
    for path in find_pictures(folder).files:
        image = read_photo(path).pixels
        sixth = image.shape[1] // 6
        middle = image[:, MIDDLE.start * sixth : MIDDLE.stop * sixth]
        for view in (image, image[:, ::-1], np.rot90(image), middle):
            for _, signs in finds(prior, np.ascontiguousarray(view)):
                yield signs


def main(folder: Path) -> None:
    """Fits the weights and ships them."""
    prior = BlazePose()
    people, nobody = of_people(prior)
    things = [*nobody, *of_things(prior, folder)]
    fitted = fit_presence(np.array(people), np.array(things))
    table = {name: np.round(value, 5).tolist() for name, value in vars(fitted).items()}
    table |= {"signals": SIGNALS, "num_people": len(people), "num_things": len(things)}
    write_bytes(PROOF, (json.dumps(table) + "\n").encode())
    print(record_shipped())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
