"""The shipped start models on rendered people who move as recordings do, beside their templates.

`pchmr bench recorded --data POSES`, with the folder that `pchmr data import amass|bvh` wrote.
Subjects, clothes, scenes and cameras are the same on both sides; poses differ. Recordings are
licensed: their names and poses stay out of the rows.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.baselines import baselines
from pchmr.bench.start import start_names
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, Domain, ModelOptions, require
from pchmr.data.mocap.people import write_recorded
from pchmr.data.mocap.poses import PoseSet
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.domains import Split
from pchmr.evaluation import Scores, evaluate
from pchmr.models import load_model
from pchmr.personalize.rehearsal import SOURCE
from pchmr.results import ResultRow, Start, Target, figure, slug

FILE = "recorded"
DOMAINS: tuple[Domain, ...] = ("A", "B")
NUM_PEOPLE = 300
REAL = Target("<=", 1.15)
"""Error on recordings over that on templates, in the domain that the start models learned."""


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of every start model and baseline, on templates and on recordings, and their ratios."""
    require(
        config.data is not None,
        "bench recorded needs --data POSES, written by `pchmr data import amass|bvh SRC POSES`",
    )
    assert config.data is not None
    body, poses = load_body(), PoseSet.open(config.data)
    count = max(1, min(NUM_PEOPLE, len(poses.rotvec)))
    for domain in DOMAINS:
        errors: dict[str, list[float]] = {}
        starts: dict[str, Start | None] = {}
        with TemporaryDirectory(prefix="pchmr-bench-") as folder:
            for kind in ("templates", "recordings"):
                sets = people_of(kind, poses, body, Path(folder) / kind, count, domain)
                for name, (scores, start) in scores_of(body, *sets).items():
                    starts[name] = start
                    label = f"{domain}, {kind}: {name}"
                    found = scores.row()
                    row = ResultRow(id=slug(label), label=label, scores=found, n=len(sets[1]))
                    yield replace(row, started_from=start)
                    errors.setdefault(name, []).append(float(found["mpjpe_mm"] or 0.0))
        for name, (templates, recordings) in errors.items():
            start = starts[name]
            target = REAL if domain == SOURCE and start is not None else None
            label = f"{domain}, recordings over templates: {name}"
            row = figure(label, round(recordings / templates, 4), "x", target)
            yield replace(row, started_from=start)


def people_of(
    kind: str, poses: PoseSet, body: BodyModel, folder: Path, count: int, domain: Domain
) -> tuple[PeopleDataset, PeopleDataset]:
    """Train and test people in poses of a kind; the first are for the constant beside."""
    found: list[PeopleDataset] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        recipe = SyntheticRecipe(domain=domain, split=split, num_samples=count, image_size=112)
        if kind == "recordings":
            found.append(write_recorded(folder / split, recipe, body, poses))
        else:
            found.append(SyntheticPeople.write(folder / split, recipe, body))
    return found[0], found[1]


def scores_of(
    body: BodyModel, train: PeopleDataset, test: PeopleDataset
) -> dict[str, tuple[Scores, Start | None]]:
    """Of every shipped start model, with its weights, and of the mean pose of these people and the
    T-pose.
    """
    found: dict[str, tuple[Scores, Start | None]] = {}
    for name in start_names():
        model, started_from = load_model(ModelOptions(model=name), body.hierarchy, seed=0)
        found[name] = (evaluate(model, body, test), Start.of(started_from))
    return found | {name: (scores, None) for name, scores in baselines(body, train, test).items()}
