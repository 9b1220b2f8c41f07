"""How real the rendered people are: shares found, and limbs in place, by a photo-trained network.

Three draws a domain at 256 px, so the table shows a spread. Needs `pchmr priors get blazepose`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, Domain
from pchmr.data import num_workers
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.recipe import RECIPE_VERSION
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.realism import Realism, realism
from pchmr.results import ResultRow, slug
from pchmr.worlds import pictures_of

FILE = "realism"
DOMAINS: tuple[Domain, ...] = ("A", "B", "V")
SEEDS = (0, 1, 2)
NUM_PEOPLE = 60
IMAGE_SIZE = 256


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the table `realism`, one a domain and draw."""
    body, prior = load_body(), BlazePose()
    for domain in DOMAINS:
        for seed in SEEDS:
            recipe = SyntheticRecipe(
                domain=domain,
                split="test",
                num_samples=NUM_PEOPLE,
                image_size=IMAGE_SIZE,
                seed=seed,
                version=config.world or RECIPE_VERSION,
            )
            found = _asked(prior, body, recipe)
            label = f"{domain}, world {recipe.version}: {NUM_PEOPLE} people of {IMAGE_SIZE} px"
            yield ResultRow(
                id=slug(label),
                label=label,
                seed=seed,
                scores=scores(found),
                differs=f"asked of {prior.provenance.name} {prior.provenance.version}",
            )


def scores(found: Realism) -> dict[str, float]:
    """Percentages, as the table shows them."""
    told = {
        "found (%)": found.found,
        "limbs within 10 % (%)": found.pck,
        "extra people (%)": found.extra,
    }
    return {name: round(100 * share, 2) for name, share in told.items() if not np.isnan(share)}


def _asked(prior: BlazePose, body: BodyModel, recipe: SyntheticRecipe) -> Realism:
    with tempfile.TemporaryDirectory() as cache:
        people = SyntheticPeople(
            recipe, body, Path(cache), num_workers=num_workers(recipe.num_samples)
        )
        return realism(prior.people, prior.names, pictures_of(people))
