"""The pictures: rendered people, photos, and how their rows are dealt to clients."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pchmr.body import BodyModel
from pchmr.config import DataOptions, SettingError, require
from pchmr.config.options import DEFAULT_SAMPLES, PRIVATE_DATA
from pchmr.data.labels import LabeledPictures, is_labels
from pchmr.data.live import LivePeople
from pchmr.data.sample import COLUMNS, PeopleDataset, Subset
from pchmr.data.sets.folder import ImportedPeople, is_imported
from pchmr.data.synthetic import RECIPE_VERSION, SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.recipe import Split

__all__ = ["FOLDERS", "FolderKind", "load_people", "num_workers", "planned_columns"]

ROWS_WORTH_A_PROCESS = 500


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that `--data` reads.

    Attributes:
        matches: Whether a folder is of this kind.
        open: Its people of a split, given the body and the side of the crops in pixels.
        whole: Whether the default number of people stands for all there are.
    """

    matches: Callable[[Path], bool]
    open: Callable[[Path, Split, BodyModel, int], PeopleDataset]
    whole: bool = False


def _open_labels(folder: Path, split: Split, body: BodyModel, image_size: int) -> PeopleDataset:
    return LabeledPictures(folder, split, body=body, image_size=image_size)


def _open_imported(folder: Path, split: Split, body: BodyModel, image_size: int) -> PeopleDataset:
    return ImportedPeople(folder, split, body=body, image_size=image_size)


def _open_rendered(folder: Path, split: Split, body: BodyModel, image_size: int) -> PeopleDataset:
    """People that `pchmr data synth` wrote."""
    people = SyntheticPeople.open(folder / split)
    if people.image_size != image_size:
        raise SettingError(
            f"{folder / split} holds crops of {people.image_size} px, but the model sees "
            f"{image_size}: give --image-size {people.image_size} or render the folder anew"
        )
    return people


FOLDERS: dict[str, FolderKind] = {
    "labels": FolderKind(is_labels, _open_labels),
    "imported": FolderKind(is_imported, _open_imported, whole=True),
    "rendered": FolderKind(lambda folder: True, _open_rendered),
}
"""Kinds of data sets; the first that matches a folder reads it, and `rendered` says what is wrong
with a folder that is none."""


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
        body: Body that the people are made of; its device renders them.
        seed: Draws the people where the options name no seed of their own.
        image_size: Side of the crops in pixels.
        progress: Called with the number of people rendered and of all people.

    Raises:
        UserError: A folder without the split, with fewer people, or with crops of another size.
    """
    count = options.num_samples if split == "train" else options.num_test_samples
    require(
        options.data is None or not options.data.name.startswith(PRIVATE_DATA),
        "this config is of a run on private data and does not say where they are: give --data",
    )
    if options.data is not None:
        kind = next(kind for kind in FOLDERS.values() if kind.matches(options.data))
        found = kind.open(options.data, split, body, image_size)
        every = kind.whole and count == DEFAULT_SAMPLES[split != "train"]
        return found if every or len(found) <= count else Subset(found, np.arange(count))
    recipe = SyntheticRecipe(
        domain=options.domain,
        split=split,
        num_samples=count,
        image_size=image_size,
        seed=seed if options.data_seed is None else options.data_seed,
        version=options.world or RECIPE_VERSION,
    )
    if options.on_the_fly and split == "train":
        return LivePeople(recipe, body)
    device = body.v_template.device
    workers = num_workers(count) if device.type == "cpu" else 0
    return SyntheticPeople(
        recipe, body, options.cache, progress, num_workers=workers, device=device
    )


def planned_columns(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    """The columns of embedded people before anything is rendered."""
    rows = layout(recipe)
    return {name: np.asarray(getattr(rows, name)) for name in COLUMNS}


def num_workers(count: int) -> int:
    """Processes that pay off to render so many people; 0 renders in this one."""
    workers = min(os.cpu_count() or 1, count // ROWS_WORTH_A_PROCESS)
    return workers if workers > 1 else 0
