"""`pchmr bench client-scale|lda|natural|finetune --scale paper --data DST`: before it starts.

Opens the imported set, makes the paper's cells of it, and says how long they will take here.
"""

import time

import numpy as np
import torch

from pchmr import compute
from pchmr.config import BenchConfig, require
from pchmr.data.sets.folder import ImportedPeople, is_imported
from pchmr.experiment.scene import open_scene
from pchmr.progress import say
from pchmr.recipes.cells import Cell
from pchmr.recipes.paper import num_images, paper_cells

STEPS = 2
"""Timed steps of training, after as many that warm up."""


def cells_of(config: BenchConfig) -> list[Cell]:
    """The cells of a table on an imported set; says how many hours they are estimated to take."""
    data = config.data
    require(
        data is not None and is_imported(data),
        "--scale paper needs --data DST, written by `pchmr data import`; see docs/reproducing.md",
    )
    assert data is not None
    people = ImportedPeople(data, "train")
    made = paper_cells(
        config.name,
        config.num_seeds,
        data=data,
        num_samples=len(people),
        num_scenes=len(np.unique(people.columns["scene"])),
        body=config.body,
        start=config.start,
    )
    if config.start is None:
        say(
            "without --start, networks start from random weights: the paper's start from ImageNet's"
        )
    images = sum(num_images(cell, len(people)) for cell in made)
    seconds = _seconds_an_image(made)
    hours = images * seconds / 3600
    say(
        f"{len(made)} cells, {images} images: about {hours:.3g} hours at {1 / seconds:.1f} images/s"
    )
    return made


def _seconds_an_image(made: list[Cell]) -> float:
    """Of a step of training of the first network, measured here."""
    run = next(cell.base for cell in made if num_images(cell, 1))
    scene = open_scene(run)
    size = run.optim_options.batch_size  # type: ignore[union-attr]
    rows = np.resize(np.arange(len(scene.train_set)), size)
    images = scene.train_set.batch(rows).images.to(compute.pick_device(run.device))
    scene.model.train()
    took = []
    for _ in range(2 * STEPS):
        began = time.perf_counter()
        scene.model(images).vertices.square().mean().backward()
        if images.is_cuda:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return sum(took[STEPS:]) / STEPS / size
