"""Fits the shipped error predictors: `python -m pchmr.workshop.calibration [images]`.

With oracle observations on domain A's validation people; with `images`, for the embedded prior on
domain A's held-out pictures, which it was not trained on. Benchmarks are on domain B.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.observations import Observations
from pchmr.annotate.pictures import PictureReader, stack
from pchmr.annotate.quality import (
    ASSET,
    ErrorPredictor,
    fit_predictor,
    load_predictors,
    save_predictors,
)
from pchmr.bench.annotators.images import IMAGE_SIZE, SOURCE, meshes
from pchmr.bench.annotators.oracle import OracleNoise, draw_people, observe
from pchmr.bench.annotators.presence import picture
from pchmr.bench.annotators.scores import run_mode
from pchmr.bench.annotators.tables import AFFINE, DENSE, KEYPOINT, METRIC, STRONG
from pchmr.body import load_body
from pchmr.config import DataOptions
from pchmr.data import load_people
from pchmr.perception.embedded import Embedded

TRAINED: dict[str, OracleNoise] = {STRONG: METRIC, KEYPOINT: AFFINE, DENSE: METRIC}
NUM_IMAGES = 500


def oracle_predictors(count: int = 768, seed: int = 7) -> dict[str, ErrorPredictor]:
    """Predictors for observations of the oracle's quality, by mode."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, count, domain="A", split="validation", seed=seed)
    found = {}
    for mode, noise in TRAINED.items():
        seen = observe(annotator.body, people, noise, seed=seed)
        found[mode] = _predictor(annotator, people.vertices, seen, mode)
    return found


def image_predictors(count: int = NUM_IMAGES) -> dict[str, ErrorPredictor]:
    """Predictors for what the embedded prior sees, by source and mode."""
    annotator = Annotator(load_body())
    data = DataOptions(domain="A", num_test_samples=count, image_size=IMAGE_SIZE)
    people = load_people(data, "test", body=annotator.body, seed=0, image_size=IMAGE_SIZE)
    reader = PictureReader(Embedded())
    seen = stack([reader.observe_image(picture(people, row)) for row in range(count)])
    truth = meshes(annotator.body, people, count)
    return {
        f"{SOURCE}{mode}": _predictor(annotator, truth, seen, mode) for mode in (STRONG, KEYPOINT)
    }


def _predictor(
    annotator: Annotator, vertices: Tensor, seen: Observations, mode: str
) -> ErrorPredictor:
    run = run_mode(annotator, vertices, seen, mode)
    return fit_predictor(run.signals, run.scores["mpjpe_mm"].astype(np.float64))


if __name__ == "__main__":
    torch.set_num_threads(1)
    fresh = image_predictors() if "images" in sys.argv[1:] else oracle_predictors()
    save_predictors(ASSET, {**load_predictors(), **fresh})
