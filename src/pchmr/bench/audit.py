"""What the server of the first round could learn: both views, cohorts of 5, 10 and 50, and what of
the model trains; rows of `results/audit.jsonl`, for the shipped start weights.

One replay a part of the model serves all views, so rows of a part are of the same people. Attacks
are `pchmr.privacy.audit`.
"""

from collections.abc import Iterator

from pchmr.config import BenchConfig, FederateConfig, ServerOptions
from pchmr.privacy.audit.attacks import ATTACKS
from pchmr.privacy.audit.evidence import Evidence, ServerView
from pchmr.privacy.audit.figures import Figure
from pchmr.privacy.audit.people import Plan
from pchmr.privacy.audit.run import STEPS, evidence_of
from pchmr.results import ResultRow, Target, slug

FILE = "audit"
COHORTS = (5, 10, 50)
PARTS = {"all": "full model", "head": "head", "lora": "low-rank"}
CHOSEN = {"all": tuple(ATTACKS), "head": ("shape", "membership"), "lora": ("shape", "membership")}
"""Attacks of each part; those that cost most are made on the full model alone."""
LONG = ("reconstruction", "rounds", "crafted")
WORKS = Target(">=", 0.5)
CONTROL = ("all", "plain", "shape", "top1")


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """A row a figure, with its interval, its chance and its ceiling."""
    for part, name in PARTS.items():
        run = FederateConfig(server_options=ServerOptions(trainable=part))  # type: ignore[arg-type]
        with evidence_of(run, Plan(), STEPS, 0) as evidence:
            for view in views():
                for figure in of_view(evidence, view, part):
                    yield row(figure, view, part, name)


def views() -> Iterator[ServerView]:
    """Single updates, then sums."""
    yield ServerView("plain", 10)
    for cohort in COHORTS:
        yield ServerView("secure", cohort)


def of_view(evidence: Evidence, view: ServerView, part: str) -> Iterator[Figure]:
    """Figures of the attacks that are made on a view."""
    for attack in CHOSEN[part]:
        if attack not in LONG or view.cohort == 10:
            yield from ATTACKS[attack](evidence, view)


def row(figure: Figure, view: ServerView, part: str, name: str) -> ResultRow:
    """A figure as a row."""
    seen = "plain" if view.name == "plain" else f"secure, cohort {view.cohort}"
    label = f"{name}, {seen}: {figure.attack}, {figure.name}"
    low, high = figure.interval
    control = (part, view.name, figure.attack, figure.name) == CONTROL
    return ResultRow(
        id=slug(label),
        label=label,
        table=FILE,
        scores={
            "value": figure.value,
            "low": low,
            "high": high,
            "chance": figure.chance,
            "ceiling": figure.ceiling,
        },
        unit=figure.unit,
        n=figure.n,
        target=WORKS if control else None,
        differs="rendered people, one a client",
    )
