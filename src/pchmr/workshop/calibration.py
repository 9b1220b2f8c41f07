"""Fits the shipped error predictors: `python -m pchmr.workshop.calibration [images|photos]`.

With oracle observations on domain A's validation people; with `images`, for the embedded prior on
domain A's held-out pictures, which it was not trained on; with `photos`, for the photo-trained one
on validation people of both domains of the second world. Benchmarks are on domain B, and of the
photo-trained one on test people.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from pchmr.annotate.deposer import Annotator, Start
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import PictureReader, stack
from pchmr.annotate.quality import (
    ALONE,
    ASSET,
    ErrorPredictor,
    fit_predictor,
    load_predictors,
    save_predictors,
)
from pchmr.annotate.starts import stack_starts
from pchmr.bench.annotators.images import IMAGE_SIZE, SOURCE, meshes
from pchmr.bench.annotators.oracle import OracleNoise, draw_people, observe
from pchmr.bench.annotators.presence import picture
from pchmr.bench.annotators.scores import run_mode
from pchmr.bench.annotators.tables import AFFINE, DENSE, KEYPOINT, METRIC, STRONG
from pchmr.bench.seen import DOMAINS, see
from pchmr.body import load_body
from pchmr.config import DataOptions
from pchmr.data import load_people
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.embedded import Embedded
from pchmr.runs.hashes import record_shipped

TRAINED: dict[str, OracleNoise] = {STRONG: METRIC, KEYPOINT: AFFINE, DENSE: METRIC}
BASELINES = ("smplifyx", "smplifyx-given-focal")
NUM_BASELINE = 32  # half a second each
NUM_IMAGES = 500
NUM_PHOTOS, PHOTO_SEED = 200, 0


def oracle_predictors(count: int = 768, seed: int = 7) -> dict[str, ErrorPredictor]:
    """Predictors for observations of the oracle's quality, by mode."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, count, domain="A", split="validation", seed=seed)
    found = {}
    for mode, noise in TRAINED.items():
        seen = observe(annotator.body, people, noise, seed=seed)
        found[mode] = _predictor(annotator, people.vertices, seen, mode)
    return found | baseline_predictors(seed=seed)


def baseline_predictors(count: int = NUM_BASELINE, seed: int = 7) -> dict[str, ErrorPredictor]:
    """Predictors for SMPLify-X, of fewer people: they rank its labels roughly."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, count, domain="A", split="validation", seed=seed)
    seen = observe(annotator.body, people, METRIC, seed=seed)
    return {mode: _predictor(annotator, people.vertices, seen, mode) for mode in BASELINES}


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


def photo_predictors() -> dict[str, ErrorPredictor]:
    """Predictors for what the photo-trained prior sees, with a network's mesh and without."""
    annotator, prior = Annotator(load_body()), BlazePose()
    seen = [
        see(prior, annotator.body, domain, "validation", NUM_PHOTOS, PHOTO_SEED)
        for domain in DOMAINS
    ]
    observations = stack([part.observations for part in seen])
    truth = torch.cat([part.vertices for part in seen])
    start = stack_starts([part.start for part in seen])
    return {
        f"{prior.provenance.name}/{name}": _predictor(
            annotator, truth, observations, KEYPOINT, told
        )
        for name, told in ((KEYPOINT, start), (ALONE, None))
    }


def _predictor(
    annotator: Annotator,
    vertices: Tensor,
    seen: Observations,
    mode: str,
    start: Start | None = None,
) -> ErrorPredictor:
    run = run_mode(annotator, vertices, seen, mode, start=start)
    return fit_predictor(run.signals, run.scores["mpjpe_mm"].astype(np.float64))


if __name__ == "__main__":
    torch.set_num_threads(1)
    makers = {"images": image_predictors, "photos": photo_predictors}
    fresh = makers[sys.argv[1]]() if sys.argv[1:] else oracle_predictors()
    save_predictors(ASSET, {**load_predictors(), **fresh})
    record_shipped()
