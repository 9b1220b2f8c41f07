"""The pictures: rendered people, photos, and how their rows are dealt to clients."""

import os
from collections.abc import Callable

from pchmr.body import BodyModel
from pchmr.config import DataOptions, SettingError
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.recipe import Split

__all__ = ["load_people"]

ROWS_WORTH_A_PROCESS = 500


def load_people(
    options: DataOptions,
    split: Split,
    *,
    body: BodyModel,
    seed: int,
    image_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> PeopleDataset:
    """The people of a split, rendered unless they are cached.

    Args:
        options: Domain, sizes, cache.
        split: Train and test share no subject and no scene.
        body: Body that the people are made of.
        seed: Draws the people where the options name no seed of their own.
        image_size: Side of the crops in pixels.
        progress: Called with the number of people rendered and of all people.
    """
    if options.data is not None:
        raise SettingError("--data")
    count = options.num_samples if split == "train" else options.num_test_samples
    recipe = SyntheticRecipe(
        domain=options.domain,
        split=split,
        num_samples=count,
        image_size=image_size,
        seed=seed if options.data_seed is None else options.data_seed,
    )
    workers = min(os.cpu_count() or 1, count // ROWS_WORTH_A_PROCESS)
    return SyntheticPeople(
        recipe, body, options.cache, progress, num_workers=workers if workers > 1 else 0
    )
