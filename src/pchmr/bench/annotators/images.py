"""What pictures alone give: the embedded prior on rendered people, every mode that it can feed.

The network was trained on domain A; the people of domain B, their clothes, rooms and activities are
new to it. Nothing of an oracle is used, the camera is not known either.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import PictureReader, stack
from pchmr.annotate.quality import load_predictors
from pchmr.bench.annotators.presence import detection_rows, picture
from pchmr.bench.annotators.scores import Run, kept, run_mode
from pchmr.bench.annotators.tables import (
    ERRORS,
    KEYPOINT,
    METRIC,
    STRONG,
    About,
    Case,
    coverage_rows,
    error_row,
    ratio_rows,
    scores_row,
)
from pchmr.body import BodyModel
from pchmr.config import DataOptions
from pchmr.data import load_people
from pchmr.data.labels import LabeledPictures, is_labels
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic import SyntheticPeople
from pchmr.perception.embedded import WEIGHTS, Embedded
from pchmr.progress import say
from pchmr.results import ResultRow

NUM_IMAGES, NUM_BASELINE = 500, 100
IMAGE_SIZE = 112
MODES = (STRONG, KEYPOINT, "smplifyx")
SETTING, SOURCE = "images only", "embedded/"
LABELED = "against labels of `pchmr annotate`: consistency, not accuracy"


def image_rows(annotator: Annotator, data: Path | None) -> Iterator[ResultRow]:
    """Errors of every mode from pictures alone, ratios to `strong-2d`, what the prior sees.

    Args:
        annotator: Body and prior.
        data: Folder of `pchmr data synth`, or labels of `pchmr annotate`, against which errors
            show consistency only; without it, held-out people of domain B.
    """
    if not WEIGHTS.is_file():
        say(f"no weights at {WEIGHTS}: the table of images is left out")
        return
    setting, words = _told(data)
    if data is None:
        yield from card_rows()
        yield from detection_rows()
    people = _people(annotator.body, data)
    reader = PictureReader(Embedded())
    seen: list[Observations] = []

    def observed(count: int) -> Observations:
        for row in range(len(seen), count):
            seen.append(reader.observe_image(picture(people, row)))
        return stack(seen[:count])

    runs: dict[str, tuple[Case, Run, About]] = {}
    for mode in MODES:
        count = min(len(people), NUM_IMAGES if mode in (STRONG, KEYPOINT) else NUM_BASELINE)
        name = f"{mode} images {people.content_hash} {count} {_weights_sha256()}"

        def compute(mode: str = mode, count: int = count) -> Run:
            truth = meshes(annotator.body, people, count)
            return run_mode(annotator, truth, observed(count), mode, is_placed=False)

        run = kept(name, compute)
        about = About(n=count, seed=0, differs=words)
        depth = "embedded prior" if mode == KEYPOINT else "none"
        targets = dict.fromkeys(ERRORS, 1.0)
        case = Case(setting=setting, mode=mode, depth=depth, noise=METRIC, targets=targets)
        runs[mode] = (case, run, about)
        yield replace(error_row(case, run, about), noise={}, table=SETTING)
    _, strong, _ = runs[STRONG]
    case, run, about = runs[KEYPOINT]
    yield from (replace(row, table=SETTING) for row in ratio_rows(case, run, strong, about))
    judged = {mode: runs[mode][1] for mode in (STRONG, KEYPOINT)}
    if {f"{SOURCE}{mode}" for mode in judged} <= set(load_predictors()):
        before = "" if data is None else f"{setting}: "
        for row in coverage_rows(judged, about, SOURCE, before):
            yield replace(row, table=SETTING)


def _told(data: Path | None) -> tuple[str, str]:
    """The setting of the rows, and what their people are."""
    if data is None:
        return SETTING, "rendered people of B, pictures only"
    return f"images of {data.resolve().name}", LABELED if is_labels(data) else "pictures only"


def _people(body: BodyModel, data: Path | None) -> PeopleDataset:
    """The held-out people of a folder, or those of domain B."""
    if data is not None and is_labels(data):
        return LabeledPictures(data, "test", body=body, image_size=IMAGE_SIZE)
    if data is not None:
        return SyntheticPeople.open(data / "test")
    options = DataOptions(num_test_samples=NUM_IMAGES, image_size=IMAGE_SIZE)
    return load_people(options, "test", body=body, seed=0, image_size=IMAGE_SIZE)


def card_rows() -> Iterator[ResultRow]:
    """What stands on the network's card: px, PCK and depth on domains A, B and V."""
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    for domain, scores in card["scores_of_stored_weights"].items():
        numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
        about = About(n=scores["num_people"], seed=0)
        yield scores_row("embedded prior", f"keypoints of domain {domain}", numbers, about)


@torch.no_grad()
def meshes(
    body: BodyModel, people: PeopleDataset, count: int
) -> Float[Tensor, "people vertices 3"]:
    """True meshes in the camera frame, metres."""
    found = []
    for at in range(0, count, 64):
        sample = people.batch(range(at, min(at + 64, count)))
        found.append(body(sample.global_orient, sample.body_pose, sample.betas).vertices)
    return torch.cat(found)


def _weights_sha256() -> str:
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
