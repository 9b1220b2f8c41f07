"""Whether the embedded prior knows nobody, one and several from each other.

`python -m pchmr.bench.annotators.presence` fits the shipped `Presence` on people of domain A that
the network was not trained on, and on pictures that show nobody; figures are on domain B.
"""

import json
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8

from pchmr.bench.annotators.tables import About, figure
from pchmr.body import load_body
from pchmr.config import DataOptions, Domain
from pchmr.data import load_people
from pchmr.data.sample import PeopleDataset
from pchmr.perception.detection import (
    PRESENCE,
    PeopleFinder,
    Presence,
    box_of,
    fit_presence,
)
from pchmr.perception.embedded import WEIGHTS, Embedded
from pchmr.perception.interfaces import Box, Image
from pchmr.results import MEASURED, ResultRow, Target
from pchmr.runs import file_sha256, write_bytes
from pchmr.runs.hashes import record_shipped
from pchmr.seeds import derive_seed

SIDE = 256
NUM_FITTED, NUM_SCORED = 160, 100
SCORED_SEED = 1
BESIDE, LEAST_STRIP = 8, 40  # pixels
COARSEST, FINEST = 3, 24  # cells of a smooth picture
JITTER = (0.7, 1.5)


def pictures_of(domain: Domain, count: int, seed: int = 0) -> PeopleDataset:
    """Held-out people of a domain, large enough for windows."""
    options = DataOptions(domain=domain, num_test_samples=count, image_size=SIDE)
    return load_people(options, "test", body=load_body(), seed=seed, image_size=SIDE)


def picture(people: PeopleDataset, row: int) -> Image:
    """8-bit pixels of a person."""
    image = people.batch([row]).images[0]
    return (255 * image).round().to(torch.uint8).permute(1, 2, 0).numpy()


def backgrounds(people: PeopleDataset, row: int) -> Iterator[Image]:
    """The strips of a picture to the left and to the right of its person."""
    image, sample = picture(people, row), people.batch([row])
    across = (sample.keypoints_2d[0, :, 0].numpy() + 1) / 2 * SIDE
    left, right = max(int(across.min()) - BESIDE, 0), int(across.max()) + BESIDE
    for strip in (image[:, :left], image[:, right:]):
        if strip.shape[1] >= LEAST_STRIP:
            yield np.ascontiguousarray(strip[: 2 * strip.shape[1]])


def blanks(count: int, seed: int) -> list[Image]:
    """Plain colors, white noise, smooth noise and ramps of brightness, in turn."""
    rng = np.random.default_rng(derive_seed(seed, "blanks"))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    found: list[Image] = [_solid(value) for value in (0, 255)]
    while len(found) < count:
        cells = int(rng.integers(COARSEST, FINEST))
        grid = torch.from_numpy(rng.random((1, 3, cells, cells))).float()
        smooth = torch.nn.functional.interpolate(grid, size=(SIDE, SIDE), mode="bicubic")[0]
        lean = rng.normal(size=2)
        ramp = np.clip(128 + 255 * (lean[0] * x + lean[1] * y), 0, 255)
        found += [
            _solid(int(rng.integers(256))),
            rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
            (255 * smooth.clamp(0, 1)).byte().permute(1, 2, 0).numpy(),
            np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=-1),
        ]
    return found[:count]


def _solid(value: int) -> UInt8[np.ndarray, "side side 3"]:
    return np.full((SIDE, SIDE, 3), value, dtype=np.uint8)


def _closer_signals(prior: Embedded, image: Image, rng: np.random.Generator) -> list[np.ndarray]:
    """Signals of the second looks at the boxes that a wide and a narrow first look give."""
    height, width = image.shape[:2]
    share = float(rng.uniform(*JITTER))
    wide, high = width * share, height * share
    x, y = (width - wide) / 2, (height - high) / 2
    places = (
        Box(x=0.0, y=0.0, width=float(width), height=float(height)),
        Box(x=x, y=y, width=wide, height=high),
    )
    boxes = [box_of(prior.keypoints(image, place)) for place in places]
    return [prior.signals(image, box) for box in boxes if box is not None]


def calibrate(count: int = NUM_FITTED, seed: int = 7) -> Presence:
    """The function fitted on domain A's held-out people and on pictures of nobody."""
    prior, rng = Embedded(), np.random.default_rng(derive_seed(seed, "looks"))
    people = pictures_of("A", count)
    shown, empty = [], []
    for row in range(count):
        shown += _closer_signals(prior, picture(people, row), rng)
        for strip in backgrounds(people, row):
            empty += _closer_signals(prior, strip, rng)
    for image in blanks(count, seed):
        empty += _closer_signals(prior, image, rng)
    return fit_presence(np.array(shown), np.array(empty))


def save(presence: Presence) -> None:
    """Writes the function into the package, beside the weights that it belongs to."""
    table: dict[str, object] = {name: np.round(v, 5).tolist() for name, v in vars(presence).items()}
    table["weights_sha256"] = file_sha256(WEIGHTS)
    write_bytes(PRESENCE, (json.dumps(table) + "\n").encode())
    record_shipped()


def detection_rows(count: int = NUM_SCORED) -> Iterator[ResultRow]:
    """How often nobody, one person and two people of domain B are taken for what they are not.

    The people are of a seed of their own: those of seed 0 were looked at to set the threshold.
    """
    finder, people = PeopleFinder(Embedded()), pictures_of("B", count, SCORED_SEED)
    images = [picture(people, row) for row in range(count)]
    alone = [len(finder.detect(image)) for image in images]
    pairs = [np.concatenate(images[row : row + 2], axis=1) for row in range(0, count - 1, 2)]
    both = [len(finder.detect(pair)) for pair in pairs]
    strips = [strip for row in range(count) for strip in backgrounds(people, row)]
    behind = [len(finder.detect(strip)) for strip in strips]
    nothing = [len(finder.detect(image)) for image in blanks(count, SCORED_SEED + 1)]
    words, few = f"rendered people of B, {SIDE} px", Target("<=", 2)
    for label, counts, wrong, target in (
        ("one person taken for nobody", alone, lambda n: n == 0, MEASURED),
        ("one person taken for several", alone, lambda n: n > 1, few),
        ("two people side by side not taken for several", both, lambda n: n < 2, MEASURED),
        ("someone found in a strip of background", behind, lambda n: n > 0, MEASURED),
        (
            "someone found in plain, noisy, smooth or ramped pictures",
            nothing,
            lambda n: n > 0,
            few,
        ),
    ):
        about = About(seed=SCORED_SEED, n=len(counts), differs=words)
        share = 100 * float(np.mean([wrong(n) for n in counts]))
        yield figure(label, share, "%", target, about, table="detection")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save(calibrate())
