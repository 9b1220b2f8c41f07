"""Wrong extra and missed people in rendered crowds of three and of five who overlap.

A person counts where at least a third of them is seen. Needs `pchmr priors get blazepose`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.body import BodyModel, load_body
from pchmr.body.joints import EVALUATION_14
from pchmr.config import BenchConfig, Domain
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.data.synthetic.crowds import Crowd, compose, whole_rows
from pchmr.data.synthetic.domains import Split
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.render import Rendered, render_rows
from pchmr.data.synthetic.world import World
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.people import LIMBS, SeenPerson, similarity
from pchmr.results import ResultRow, slug

FILE = "crowds"
DOMAINS: tuple[Domain, ...] = ("A", "B")
SIZES = (3, 5)
SEEDS = (0, 1, 2)
NUM_RENDERED = 40
NUM_CROWDS = 4
HEIGHT, WIDTH = 480, 720
IMAGE_SIZE = 320
LEAST_SEEN = 1 / 3
SAME = 0.5  # similarity from which a find is the person


@dataclass(frozen=True)
class Tally:
    """People of pictures: in them and seen well enough, found, and found where nobody is."""

    people: int = 0
    found: int = 0
    extra: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.people + other.people, self.found + other.found, self.extra + other.extra)


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the table `crowds`, one a domain, number of people and draw."""
    body, prior = load_body(), BlazePose()
    for domain in DOMAINS:
        for seed in SEEDS:
            shown = rendered(domain, seed, body)
            for size in SIZES:
                tally = Tally()
                for crowd in crowds(shown, size, seed):
                    tally += count(prior.people(crowd.image), prior.names, crowd)
                label = f"{domain}: crowds of {size}, {WIDTH} x {HEIGHT} px"
                yield ResultRow(
                    id=slug(label),
                    label=label,
                    seed=seed,
                    scores={
                        "found (%)": round(100 * tally.found / tally.people, 2),
                        "extra people (%)": round(100 * tally.extra / tally.people, 2),
                    },
                    differs=f"asked of {prior.provenance.name} {prior.provenance.version}",
                )


def rendered(domain: Domain, seed: int, body: BodyModel, split: Split = "test") -> Rendered:
    """People of a domain, each alone."""
    recipe = SyntheticRecipe(
        domain=domain, split=split, num_samples=NUM_RENDERED, image_size=IMAGE_SIZE, seed=seed
    )
    return render_rows(World(recipe, body), layout(recipe))


def crowds(shown: Rendered, size: int, seed: int) -> Iterator[Crowd]:
    """Pictures of some of them."""
    rng, whole = np.random.default_rng([seed, size]), whole_rows(shown)
    for _ in range(NUM_CROWDS):
        yield compose(shown, rng.choice(whole, size, replace=False), rng, HEIGHT, WIDTH)


def count(people: list[SeenPerson], names: tuple[str, ...], crowd: Crowd) -> Tally:
    """Finds against truth, the surest find first; each person is found once.

    Who is hidden too far is neither missed nor extra.
    """
    free, found, extra = set(range(len(crowd.keypoints))), 0, 0
    counted = crowd.visible >= LEAST_SEEN
    for person in people:
        likes = {number: alike(person, names, crowd.keypoints[number]) for number in free}
        best = max(likes, key=lambda number: likes[number], default=None)
        if best is None or likes[best] < SAME:
            extra += 1
        else:
            free.remove(best)
            found += int(counted[best])
    return Tally(int(counted.sum()), found, extra)


def alike(person: SeenPerson, names: tuple[str, ...], truth: Float[ndarray, "14 3"]) -> float:
    """Similarity of a find and of a true pose of evaluation joints."""
    limbs = person.keypoints[[names.index(name) for name in LIMBS], :2]
    wanted = truth[list(EVALUATION_14.indices(LIMBS)), :2]
    size = np.ptp(truth[:, :2], axis=0)
    return similarity(limbs, wanted, float(np.sqrt(size.prod())))
