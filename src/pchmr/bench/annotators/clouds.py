"""What dense points of other tools give: rows of the table `clouds`.

Points alone, no keypoint depth: evenly seen ones, uneven ones, ones from all sides of the body, and
ones of which a fifth lie on furniture or on somebody else. Errors are held against the fit of the
same keypoints without depth, person by person.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.observed import Observations
from pchmr.bench.annotators.oracle import People, draw_people, observe
from pchmr.bench.annotators.placing import PLACED
from pchmr.bench.annotators.scores import Run, kept, run_mode
from pchmr.bench.annotators.tables import DENSE, STRONG, About, figure
from pchmr.body import load_body
from pchmr.config import BenchConfig
from pchmr.progress import say
from pchmr.results import ResultRow, Target
from pchmr.seeds import derive_seed

FILE, TABLE = "annotators", "clouds"
NUM_PEOPLE = 32
NUM_POINTS = 300
POINT_SD = 0.01  # metres
DENSE_SHARE, DENSE_REACH = 0.8, 0.25  # of uneven points, within so many metres of one of them
ELSEWHERE = 0.2  # share of points that are not the person's
MOST, ON_AVERAGE = 1.0, 0.55

Points = Callable[[ndarray, ndarray, np.random.Generator], Float[ndarray, "points 3"]]


def _even(seen: ndarray, surface: ndarray, rng: np.random.Generator) -> ndarray:
    return seen


def _uneven(seen: ndarray, surface: ndarray, rng: np.random.Generator) -> ndarray:
    """Most points on one part of what is seen."""
    away = np.linalg.norm(seen - seen[rng.integers(len(seen))], axis=-1)
    near, far = np.flatnonzero(away < DENSE_REACH), np.flatnonzero(away >= DENSE_REACH)
    share = round(DENSE_SHARE * len(seen))
    rows = [rng.choice(near, share), rng.choice(far if len(far) else near, len(seen) - share)]
    return seen[np.concatenate(rows)]


def _hidden(seen: ndarray, surface: ndarray, rng: np.random.Generator) -> ndarray:
    """Points of the whole surface, its back included."""
    return surface[rng.choice(len(surface), len(seen), replace=False)]


def _outliers(seen: ndarray, surface: ndarray, rng: np.random.Generator) -> ndarray:
    """A fifth of the points on a bench beside the person, a wall behind, and somebody else."""
    found, kind = seen.copy(), rng.integers(3, size=len(seen))
    middle = seen.mean(axis=0)
    other = surface[rng.choice(len(surface), len(seen))] + [rng.choice([-1, 1]) * 0.7, 0.0, 0.3]
    bench = middle + rng.uniform(-1, 1, seen.shape) * [0.8, 0.1, 0.4] + [0.0, 0.3, 0.2]
    wall = middle + rng.uniform(-1, 1, seen.shape) * [1.0, 1.0, 0.0] + [0.0, 0.0, 0.6]
    elsewhere = np.stack([other, bench, wall])[kind, np.arange(len(seen))]
    foreign = rng.random(len(seen)) < ELSEWHERE
    found[foreign] = elsewhere[foreign]
    return found


CLOUDS: dict[str, Points] = {
    "evenly seen": _even,
    "uneven": _uneven,
    "with hidden points": _hidden,
    "20 % elsewhere": _outliers,
}


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Ratios of MPJPE to that without depth: of the means, and of the worst person."""
    annotator, seed = Annotator(load_body()), 0
    about = About(n=NUM_PEOPLE, seed=seed, differs="rendered people, oracle observations")

    def run(mode: str, cloud: str) -> Run:
        name = f"clouds {mode} {cloud} {seed} {annotator.body.sha256}"
        return kept(name, partial(_run, annotator, mode, cloud, seed))

    flat = run(STRONG, "evenly seen").scores["mpjpe_mm"]
    for cloud in CLOUDS:
        error = run(DENSE, cloud).scores["mpjpe_mm"]
        label = f"points {cloud}: MPJPE over {STRONG}"
        say(f"  {label}: {error.mean() / flat.mean():.3f}, worst {(error / flat).max():.2f}")
        mean, worst = float(error.mean() / flat.mean()), float((error / flat).max())
        yield figure(f"{label}, mean", mean, "x", Target("<=", ON_AVERAGE), about, table=TABLE)
        yield figure(f"{label}, worst", worst, "x", Target("<=", MOST), about, table=TABLE)


def _run(annotator: Annotator, mode: str, cloud: str, seed: int) -> Run:
    people = draw_people(annotator.body, NUM_PEOPLE, domain="B", seed=seed)
    seen = observe(annotator.body, people, PLACED, seed=seed)
    return run_mode(annotator, people.vertices, with_cloud(people, seen, cloud, seed), mode)


def with_cloud(people: People, seen: Observations, cloud: str, seed: int) -> Observations:
    """The same keypoints with points of a kind, and no keypoint depth."""
    rng = np.random.default_rng(derive_seed(seed, "clouds"))
    assert seen.points is not None
    points = np.full((len(people), NUM_POINTS, 3), np.nan)
    for row, surface in enumerate(people.surface.double().numpy()):
        visible = seen.points[row][np.isfinite(seen.points[row]).all(axis=-1)]
        made = CLOUDS[cloud](visible, surface, rng)
        points[row, : len(made)] = made + POINT_SD * rng.standard_normal(made.shape)
    return replace(seen, points=points, keypoint_depth=None)
