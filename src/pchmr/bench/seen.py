"""Rendered people as `predict` and `annotate` see them through the photo-trained network.

Two domains of the second world at 256 px, on test people that nothing was chosen on: shares found,
limbs in place, errors in space, the best half by predicted error, errors by groups, CPU time. Needs
`pchmr priors get blazepose`. What is not rendered (age groups, mobility aids) is unmeasured.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator, Fit, Start
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import stack
from pchmr.annotate.quality import inspect, load_predictors, predict_mm
from pchmr.annotate.sightings import Found, observed
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.bench.annotators.scores import score
from pchmr.bench.start import begun
from pchmr.body import BodyModel, load_body
from pchmr.body.joints import EVALUATION_14
from pchmr.config import BenchConfig, Domain
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.data.synthetic.domains import Split
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.recipe import Rows
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.world import World
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.people import LIMBS
from pchmr.perception.realism import of_truth
from pchmr.results import ResultRow, Target, slug

FILE = "seen"
DOMAINS: tuple[Domain, ...] = ("A", "B")
NUM_PEOPLE, IMAGE_SIZE, SEED, WORLD = 480, 256, 3, 2
MODE = "deposer-keypoint"
JUDGE = f"blazepose/{MODE}"
NUM_TIMED = 8
MOST_MS = 150.0


@dataclass(frozen=True)
class SeenPeople:
    """People of whom each was found.

    Attributes:
        observations: What was seen of them, one frame each.
        start: What the shipped network says of them, as `predict` and `annotate` begin.
        truth: Evaluation joints in pixels; the last column is above zero inside the picture.
        vertices: True meshes in the camera frame, metres.
        rows: Of those who were rendered.
        num_rendered: All of them.
        rows_of_all: What they show.
        world: In which.
    """

    observations: Observations
    start: Start
    truth: Float[ndarray, "people 14 3"]
    vertices: Float[Tensor, "people vertices 3"]
    rows: Int[ndarray, " people"]
    num_rendered: int
    rows_of_all: Rows
    world: World


@torch.no_grad()
def see(
    prior: BlazePose, body: BodyModel, domain: Domain, split: Split, count: int, seed: int
) -> SeenPeople:
    """Renders people, and looks for them."""
    recipe = SyntheticRecipe(
        domain=domain,
        split=split,
        num_samples=count,
        image_size=IMAGE_SIZE,
        seed=seed,
        version=WORLD,
    )
    world, rows = World(recipe, body), layout(recipe)
    shown = render_rows(world, rows)
    truth = shown.labels["keypoints_2d"].astype(np.float64)
    truth[..., :2] = (truth[..., :2] + 1) / 2 * IMAGE_SIZE
    network = HmrStarts.open(body, None)
    kept, parts, starts = [], [], []
    for row, image in enumerate(shown.images):
        person = of_truth(prior.people(image), truth[row])
        if person is not None:
            kept.append(row)
            parts.append(observed(image, prior, Found(person.box, person)))
            starts.append(network.start(image, person.box))
    pose = (torch.from_numpy(shown.labels[n][kept]) for n in ("global_orient", "body_pose"))
    betas = torch.from_numpy(shown.labels["betas"][kept])
    vertices = body(*pose, betas).vertices
    return SeenPeople(
        stack(parts),
        stack_starts(starts),
        truth[kept],
        vertices,
        np.array(kept),
        len(shown.images),
        rows,
        world,
    )


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the table `seen`."""
    body, prior = load_body(), BlazePose()
    yield from begun(body, _figures(body, prior))


def _figures(body: BodyModel, prior: BlazePose) -> Iterator[ResultRow]:
    annotator, predictors = Annotator(body), load_predictors()
    for domain in DOMAINS:
        seen = see(prior, body, domain, "test", NUM_PEOPLE, SEED)
        fit = annotator.fit(seen.observations, MODES[MODE], [seen.start])
        errors = {n: v.numpy() for n, v in score(annotator, fit, seen.vertices).items()}
        label = f"{domain}: {NUM_PEOPLE} people of {IMAGE_SIZE} px"
        yield _row(label, all_scores(annotator, seen, fit, errors), prior)
        predicted = predict_mm(predictors, JUDGE, inspect(annotator, fit))
        if np.isfinite(predicted).any():
            told = half_scores(predicted, errors["mpjpe_mm"])
            yield _row(f"{domain}: the half of least predicted error", told, prior)
        for name, told in by_group(seen, errors["mpjpe_mm"]):
            yield _row(f"{domain}: MPJPE by {name}", told, prior)
    yield _timed(prior, annotator, body)


def _row(label: str, scores: Mapping[str, float], prior: BlazePose) -> ResultRow:
    about = f"world {WORLD}, through {prior.provenance.name} {prior.provenance.version}"
    rounded = {name: round(float(value), 2) for name, value in scores.items()}
    return ResultRow(id=slug(label), label=label, seed=SEED, scores=rounded, differs=about)


def all_scores(
    annotator: Annotator, seen: SeenPeople, fit: Fit, errors: Mapping[str, ndarray]
) -> dict[str, float]:
    """Shares in percent and errors in mm of everybody."""
    body, evidence = annotator.body, fit.objective.evidence
    joints = body.regress(annotator.vertices(fit), EVALUATION_14)
    focal = (evidence.focal * fit.state.log_focal.exp())[:, None, None]
    pixels = joints[..., :2] / joints[..., 2:] * focal + evidence.center[:, None]
    apart = limb_errors(pixels.numpy(), seen.truth)
    return {
        "found (%)": 100 * len(seen.rows) / seen.num_rendered,
        "limbs within 10 % (%)": 100 * float((apart < 0.1).mean()),
        "limbs within 5 % (%)": 100 * float((apart < 0.05).mean()),
        "MPJPE (mm)": errors["mpjpe_mm"].mean(),
        "PA-MPJPE (mm)": errors["pa_mpjpe_mm"].mean(),
    }


def limb_errors(
    pixels: Float[ndarray, "people 14 2"], truth: Float[ndarray, "people 14 3"]
) -> Float[ndarray, " limbs"]:
    """Distances of limb joints inside the picture, in sizes of their person."""
    limbs = list(EVALUATION_14.indices(LIMBS))
    found = []
    for mine, joints in zip(pixels, truth, strict=True):
        inside = joints[..., 2] > 0
        size = float(np.ptp(joints[inside, :2], axis=0).max())
        apart = np.linalg.norm(mine[limbs] - joints[limbs, :2], axis=-1) / size
        found.append(apart[inside[limbs]])
    return np.concatenate(found)


def half_scores(predicted: ndarray, error_mm: ndarray) -> dict[str, float]:
    """MPJPE of the half of people of least predicted error, beside that of all."""
    best = np.argsort(predicted, kind="stable")[: len(predicted) // 2]
    half, whole = float(error_mm[best].mean()), float(error_mm.mean())
    mean = float(np.nanmean(predicted))
    told = {"all (mm)": whole, "best half (mm)": half, "lower by (%)": 100 * (1 - half / whole)}
    return {**told, "mean prediction (mm)": mean}


def by_group(seen: SeenPeople, error_mm: ndarray) -> Iterator[tuple[str, dict[str, float]]]:
    """What people are told apart by, and the MPJPE of each group and of the worst."""
    for name, groups in groups_of(seen).items():
        means = {group: float(error_mm[groups == group].mean()) for group in np.unique(groups)}
        worst = max(means, key=lambda group: means[group])
        told = {f"{group} (mm)": mean for group, mean in means.items()}
        yield f"{name}, worst: {worst}", told


def groups_of(seen: SeenPeople) -> dict[str, ndarray]:
    """Stature, build, skin tone and clothing of each person, in halves and thirds."""
    subjects = [seen.world.subject(int(s)) for s in seen.rows_of_all.subject[seen.rows]]
    betas = torch.from_numpy(np.stack([s.betas for s in subjects])).to(seen.vertices)
    body, still = seen.world.body, betas.new_zeros(len(betas), 24, 3)
    rest = body(still[:, 0], still[:, 1:], betas).vertices
    tall = np.ptp(rest[..., 1].numpy(), axis=1)
    trunk = (rest[..., 1] - rest[..., 1].mean(dim=1, keepdim=True)).abs() < 0.1
    narrow = trunk & (rest[..., 0].abs() < 0.25)
    depth = [float(np.ptp(v[n, 2].numpy())) for v, n in zip(rest, narrow, strict=True)]
    skin = np.array([float(np.mean(s.skin)) for s in subjects])
    pairs = zip(seen.rows_of_all.subject[seen.rows], seen.rows_of_all.scene[seen.rows], strict=True)
    loose = np.array([_looseness(seen.world, int(s), int(c)) for s, c in pairs])
    return {
        "stature": halves(tall, "short", "tall"),
        "build": halves(np.array(depth) / tall, "slender", "stout"),
        "skin tone": thirds(skin, ("dark", "medium", "light")),
        "clothing": halves(loose, "close", "loose"),
    }


def _looseness(world: World, subject: int, scene: int) -> float:
    """Mean distance of the clothes from the skin, metres."""
    return float(np.linalg.norm(world.dressed(subject, scene).offsets, axis=-1).mean())


def halves(values: ndarray, low: str, high: str) -> ndarray:
    """Names by whether values lie above the median."""
    return np.where(values > np.median(values), high, low)


def thirds(values: ndarray, names: tuple[str, str, str]) -> ndarray:
    """Names by thirds."""
    return np.array(names)[np.digitize(values, np.quantile(values, (1 / 3, 2 / 3)))]


def _timed(prior: BlazePose, annotator: Annotator, body: BodyModel) -> ResultRow:
    """CPU time of a photo of one person: detector, landmarks and fit, once all is loaded."""
    seen = see(prior, body, "A", "validation", NUM_TIMED, SEED)
    recipe = seen.world.recipe
    images = render_rows(seen.world, layout(recipe)).images
    network, spent = HmrStarts.open(body, None), []
    for image in images:
        began = time.process_time()
        people = prior.people(image)
        for person in people[:1]:
            observations = observed(image, prior, Found(person.box, person))
            start = network.start(image, person.box)
            annotator.vertices(annotator.fit(observations, MODES[MODE], [start]))
        spent.append(1000 * (time.process_time() - began))
    label = f"one photo of {IMAGE_SIZE} px: detector, landmarks, fit"
    return ResultRow(
        id=slug(label),
        label=label,
        scores={"value": round(float(np.median(spent)), 1)},
        unit="CPU-ms",
        target=Target("<=", MOST_MS),
    )
