"""How far off the pelvis lands where depth is metric: rows of the table `placing`.

People and bodies of several kinds, depth right to 2 cm, the camera known. Root-aligned scores do
not see where a person stands; the root position error (MRPE) does.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import torch

from pchmr.annotate.deposer import Annotator
from pchmr.bench.annotators.oracle import OracleNoise, People, draw_people, observe
from pchmr.bench.annotators.scores import Run, kept, run_mode
from pchmr.bench.annotators.strangers import draw_strangers
from pchmr.bench.annotators.tables import DENSE, KEYPOINT, About, figure
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig
from pchmr.progress import say
from pchmr.results import ResultRow, Target
from pchmr.seeds import derive_seed

FILE, TABLE = "annotators", "placing"
NUM_PEOPLE = 64
PLACED = OracleNoise(scale_sd=0.0, shift_sd=0.0, focal_sd=0.0)
FAR_BETAS = (2.0, 3.0)  # standard deviations of the first betas of people of other builds
NUM_FAR = 3
LENSES = (0.5, 2.5)  # of the focal length that the people were drawn with
MEDIAN_MM, WORST_MM = 50.0, 150.0
CROWDS = ("domain A", "domain B", "other builds", "other lenses", "Anny itself")


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Median and 95th percentile of the root position error, by people and mode."""
    annotator, seed = Annotator(load_body()), 0
    about = About(n=NUM_PEOPLE, seed=seed, differs="rendered people, oracle observations")
    for crowd in CROWDS:
        if crowd == "Anny itself" and find_spec("anny") is None:
            continue
        for mode in (KEYPOINT, DENSE):
            error = placed(annotator, crowd, mode, seed).scores["mrpe_mm"]
            label = f"{crowd}: {mode}, metric 2 cm, pelvis off"
            say(f"  {label}: {np.median(error):.1f} mm")
            for words, share, most in (
                ("median", 0.5, MEDIAN_MM),
                ("95th percentile", 0.95, WORST_MM),
            ):
                value, target = float(np.quantile(error, share)), Target("<=", most)
                yield figure(f"{label}, {words}", value, "mm", target, about, table=TABLE)


def placed(annotator: Annotator, crowd: str, mode: str, seed: int) -> Run:
    """Scores of a mode on some people, from the cache where they are."""

    def compute() -> Run:
        people = people_of(annotator.body, crowd, NUM_PEOPLE, seed)
        seen = observe(annotator.body, people, PLACED, seed=seed)
        return run_mode(annotator, people.vertices, seen, mode)

    return kept(f"placing {crowd} {mode} {seed} {annotator.body.sha256}", compute)


def people_of(body: BodyModel, crowd: str, count: int, seed: int) -> People:
    """The people of one of `CROWDS`."""
    if crowd == "Anny itself":
        return draw_strangers(body, count, seed=seed)
    if crowd == "domain A":
        return draw_people(body, count, domain="A", seed=seed)
    people = draw_people(body, count, domain="B", seed=seed)
    if crowd == "other builds":
        return rebuilt(body, people, seed)
    return through_lenses(body, people, seed) if crowd == "other lenses" else people


@torch.no_grad()
def rebuilt(body: BodyModel, people: People, seed: int) -> People:
    """The same poses on bodies far from the mean."""
    rng = np.random.default_rng(derive_seed(seed, "builds"))
    size = rng.uniform(*FAR_BETAS, (len(people), NUM_FAR)) * rng.choice([-1, 1], (len(people), 1))
    betas = people.betas.clone()
    betas[:, :NUM_FAR] = torch.from_numpy(size).to(betas)
    return _meshed(body, replace(people, betas=betas))


@torch.no_grad()
def through_lenses(body: BodyModel, people: People, seed: int) -> People:
    """The same people about as large in the picture, through wider and longer lenses."""
    rng = np.random.default_rng(derive_seed(seed, "lenses"))
    low, high = np.log(LENSES)
    zoom = torch.from_numpy(np.exp(rng.uniform(low, high, len(people)))).to(people.transl)
    cameras, transl = people.intrinsics.clone(), people.transl.clone()
    cameras[:, [0, 1], [0, 1]] *= zoom[:, None]
    transl[:, 2] = (zoom * people.vertices[..., 2].mean(dim=1)).clamp_min(1.5)
    return _meshed(body, replace(people, intrinsics=cameras, transl=transl))


def _meshed(body: BodyModel, people: People) -> People:
    """People with the meshes of their parameters, who wear nothing."""
    local = people.rotmat[:, 1:]
    vertices = body(people.rotmat[:, 0], local, people.betas, people.transl).vertices
    return replace(people, vertices=vertices, surface=vertices)
