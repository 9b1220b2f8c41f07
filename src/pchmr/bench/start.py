"""The shipped start models before any training, on five draws of people: over their mean pose.

Nobody in these draws was seen while the weights were made, nor chosen by. Rows stand beside what
the cards of the weights say, in `start`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.baselines import baselines
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, DataOptions, Domain, ModelOptions
from pchmr.data import load_people
from pchmr.evaluation import evaluate
from pchmr.models import HMRModel, load_model
from pchmr.models.checkpoint import SHIPPED
from pchmr.results import ResultRow, Start, Target, figure

FILE = "start"
SEEDS = range(600, 605)
NUM_PEOPLE = 200
DOMAINS: dict[Domain, Target] = {"A": Target("<=", 0.33), "B": Target("<=", 0.55)}
"""Where people are drawn from, and how far below a constant the error is to lie."""


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """A row for every draw of a domain and every start model."""
    body = load_body()
    models = {}
    for name in start_names():
        model, started_from = load_model(ModelOptions(model=name), body.hierarchy, seed=0)
        models[name] = (model.eval(), Start.of(started_from))
    for domain in DOMAINS:
        for seed in SEEDS:
            found = ratios(body, [model for model, _ in models.values()], domain, seed)
            for (name, (_, start)), ratio in zip(models.items(), found, strict=True):
                label = f"{name}, {domain}, five draws: MPJPE over that of the mean pose"
                row = figure(label, round(ratio, 4), "x", DOMAINS[domain])
                yield replace(row, seed=seed, started_from=start, n=NUM_PEOPLE)


def start_names() -> list[str]:
    """Networks that ship with start weights."""
    return sorted(path.stem for path in SHIPPED.glob("*_xs.safetensors"))


def begun(body: BodyModel, rows: Iterable[ResultRow]) -> Iterator[ResultRow]:
    """Rows of what begins with the shipped network: later weights put them out of date."""
    start = Start.of(load_model(ModelOptions(), body.hierarchy, seed=0)[1])
    yield from (replace(row, started_from=start) for row in rows)


def ratios(
    body: BodyModel,
    models: Sequence[HMRModel],
    domain: Domain,
    seed: int,
    count: int = NUM_PEOPLE,
) -> list[float]:
    """MPJPE of each model over that of the mean pose, on one draw of test people.

    The mean pose is that of as many training people of the draw.
    """
    side = models[0].image_size
    data = DataOptions(domain=domain, num_samples=count, num_test_samples=count)
    with TemporaryDirectory(prefix="pchmr-bench-") as cache:
        data = replace(data, cache=Path(cache))
        train, test = (
            load_people(data, split, body=body, seed=seed, image_size=side)
            for split in ("train", "test")
        )
        constant = baselines(body, train, test)["mean_pose"].mpjpe_mm
        errors = [evaluate(model, body, test).mpjpe_mm for model in models]
    assert constant is not None
    return [float(error or 0.0) / constant for error in errors]
