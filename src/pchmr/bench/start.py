"""The shipped start models before any training, on five draws of people: over their mean pose.

Nobody in these draws was seen while the weights were made, nor chosen by. For the first domain also
what others beside the person cost, who are none of those that training laid there. Rows stand
beside what the cards of the weights say, in `start`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pchmr.baselines import baselines
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, DataOptions, Domain, ModelOptions
from pchmr.data import load_people
from pchmr.data.bystanders import cut_outs, surrounded
from pchmr.data.sample import PeopleDataset, Sample, Subset
from pchmr.evaluation import evaluate
from pchmr.models import HMRModel, load_model
from pchmr.models.checkpoint import SHIPPED
from pchmr.results import MEASURED, ResultRow, Start, Target, figure

FILE = "start"
SEEDS = range(600, 605)
NUM_PEOPLE, OTHERS_SEED = 200, 77
DOMAINS: dict[Domain, Target] = {"A": Target("<=", 0.33), "B": Target("<=", 0.55)}
"""Where people are drawn from, and how far below a constant the error is to lie."""


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """A row for every draw of a domain and every start model."""
    body = load_body()
    models = {}
    for name in start_names():
        model, started_from = load_model(ModelOptions(model=name), body.hierarchy, seed=0)
        models[name] = (model.eval(), Start.of(started_from))
    measures: list[tuple[Domain, str, Target, Callable[..., list[float]]]] = [
        (domain, f"{domain}, five draws: MPJPE over that of the mean pose", target, ratios)
        for domain, target in DOMAINS.items()
    ]
    beside = "A, five draws, others beside: MPJPE over that of the same people alone"
    measures.append(("A", beside, MEASURED, among_others))
    for domain, what, target, measure in measures:
        for seed in SEEDS:
            found = measure(body, [model for model, _ in models.values()], domain, seed)
            for (name, (_, start)), ratio in zip(models.items(), found, strict=True):
                row = figure(f"{name}, {what}", round(ratio, 4), "x", target)
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
    with drawn(body, models[0].image_size, domain, seed, count) as (train, test):
        constant = baselines(body, train, test)["mean_pose"].mpjpe_mm
        errors = [evaluate(model, body, test).mpjpe_mm for model in models]
    assert constant is not None
    return [float(error or 0.0) / constant for error in errors]


def among_others(
    body: BodyModel,
    models: Sequence[HMRModel],
    domain: Domain,
    seed: int,
    count: int = NUM_PEOPLE,
) -> list[float]:
    """MPJPE of each model where others stand beside, over that of the same people alone."""
    with drawn(body, models[0].image_size, domain, seed, count) as (_, test):
        others = cut_outs(test.image_size, count, OTHERS_SEED)
        crowded = Crowded(test, np.arange(len(test)), others)
        pairs = [(evaluate(m, body, crowded), evaluate(m, body, test)) for m in models]
    return [float(beside.mpjpe_mm or 0.0) / float(alone.mpjpe_mm or 1.0) for beside, alone in pairs]


@contextmanager
def drawn(
    body: BodyModel, side: int, domain: Domain, seed: int, count: int
) -> Iterator[tuple[PeopleDataset, PeopleDataset]]:
    """Train and test people of a draw, kept no longer than they are looked at."""
    data = DataOptions(domain=domain, num_samples=count, num_test_samples=count)
    with TemporaryDirectory(prefix="pchmr-bench-") as cache:
        data = replace(data, cache=Path(cache))
        train, test = (
            load_people(data, split, body=body, seed=seed, image_size=side)
            for split in ("train", "test")
        )
        yield train, test


@dataclass(frozen=True)
class Crowded(Subset):
    """People of whom each has others beside, or stands where the picture ends.

    Attributes:
        others: Who they are (see `cut_outs`).
    """

    others: UInt8[Tensor, "others 4 side side"]

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, with the same others whenever a batch begins with the same row."""
        sample = super().batch(indices)
        generator = torch.Generator().manual_seed(int(np.asarray(indices)[0]))
        return surrounded(sample, self.others, 1.0, generator)
