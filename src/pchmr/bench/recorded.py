"""The shipped start models on rendered people who move as recordings do, beside their templates.

`pchmr bench recorded --data POSES`, with the folder that `pchmr data import amass|bvh` wrote.
Subjects, clothes, scenes and cameras are the same on both sides; poses differ. Recordings are
licensed: their names and poses stay out of the rows.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.baselines import baselines
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, Domain, ModelOptions, require
from pchmr.data.mocap.people import write_recorded
from pchmr.data.mocap.poses import PoseSet
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.domains import Split
from pchmr.evaluation import Scores, evaluate
from pchmr.models import load_model
from pchmr.models.checkpoint import SHIPPED
from pchmr.personalize.rehearsal import SOURCE
from pchmr.results import ResultRow, Target, figure, slug

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
        with TemporaryDirectory(prefix="pchmr-bench-") as folder:
            for kind in ("templates", "recordings"):
                sets = people_of(kind, poses, body, Path(folder) / kind, count, domain)
                for name, scores in scores_of(body, *sets).items():
                    label = f"{domain}, {kind}: {name}"
                    found = scores.row()
                    yield ResultRow(id=slug(label), label=label, scores=found, n=len(sets[1]))
                    errors.setdefault(name, []).append(float(found["mpjpe_mm"] or 0.0))
        for name, (templates, recordings) in errors.items():
            is_model = domain == SOURCE and (SHIPPED / f"{name}.safetensors").is_file()
            label = f"{domain}, recordings over templates: {name}"
            yield figure(label, round(recordings / templates, 4), "x", REAL if is_model else None)


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


def scores_of(body: BodyModel, train: PeopleDataset, test: PeopleDataset) -> dict[str, Scores]:
    """Of every shipped start model, the mean pose of these people, and the T-pose."""
    found = {}
    for path in sorted(SHIPPED.glob("*_xs.safetensors")):
        options = ModelOptions(model=path.stem, checkpoint=path)
        model, _ = load_model(options, body.hierarchy, seed=0)
        found[path.stem] = evaluate(model, body, test)
    return found | baselines(body, train, test)
