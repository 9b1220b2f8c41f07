"""The paper's claims: where a difference of two rows must lie for each, and what is said of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pchmr.recipes.comparisons import ALPHAS, TO_PLATEAU, of_alpha
from pchmr.recipes.rows import (
    CENTRALIZED,
    DEALT,
    EVERYONE,
    LONGER,
    NATURAL,
    NATURAL_CLIENTS,
    of_clients,
    state_of,
)
from pchmr.report.crossed import Estimate, holm

LEAST_SEEDS = 3
LEVEL = 0.05
MET, MISSED = "yes", "**no**"
FAMILIES = {"fastmetro": "FastMETRO", "tore": "TORE (claim 3: alike)"}
SETTING = "XS networks, rendered people and few images"
HUNDRED, THOUSAND = of_clients(100), of_clients(1000)
SKEWED, WITH_STATE = of_alpha(min(ALPHAS)), state_of(10, "average")
# What to call the rows that claims and targets are about, measured or not.
NAMES = {
    CENTRALIZED: "centralized",
    LONGER: "centralized, twice as long",
    **{of_clients(number): f"10 of {number} clients" for number in (10, 100, 1000)},
    WITH_STATE: "10 of 10 clients, state averaged",
    SKEWED: f"LDA alpha {min(ALPHAS):g}, 10 of 100 clients",
    DEALT: f"iid, 10 of {NATURAL_CLIENTS} clients",
    NATURAL: f"natural, 10 of {NATURAL_CLIENTS} scenes",
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what would bear it out.

    Attributes:
        place: Number of the claim.
        text: The claim.
        recipe: Comparison that tests it.
        ours: Id of the row whose error is held against that of `theirs`.
        theirs: Id of the other row.
        low: Least difference in percent that agrees with the claim.
        high: Largest one.
        families: Networks that it is tested with.
    """

    place: int
    text: str
    recipe: str
    ours: str
    theirs: str
    low: float
    high: float
    families: tuple[str, ...] = tuple(FAMILIES)


ANY_GAIN = -100.0
CLAIMS = (
    Claim(
        1,
        "10 of 10 matches or beats centralized",
        "client-scale",
        EVERYONE,
        CENTRALIZED,
        ANY_GAIN,
        1.0,
    ),
    Claim(
        1,
        f"10 of 10 matches or beats centralized on {TO_PLATEAU} times the images",
        "plateau",
        WITH_STATE,
        CENTRALIZED,
        ANY_GAIN,
        1.0,
        ("fastmetro",),
    ),
    Claim(
        2, "100 clients cost a modest amount", "client-scale", HUNDRED, CENTRALIZED, ANY_GAIN, 10.0
    ),
    Claim(
        2,
        "1000 clients cost a modest amount",
        "client-scale",
        THOUSAND,
        CENTRALIZED,
        ANY_GAIN,
        10.0,
    ),
    Claim(
        4, "the most skewed Dirichlet partition hurts, modestly", "lda", SKEWED, HUNDRED, 0.0, 10.0
    ),
    Claim(
        5,
        "federated fine-tuning matches centralized",
        "natural",
        DEALT,
        CENTRALIZED,
        ANY_GAIN,
        1.0,
    ),
    Claim(6, "the natural partition costs a few percent", "natural", NATURAL, DEALT, 0.0, 5.0),
)

Judged = tuple[str, float | None]
"""What is said of a claim, and its p value adjusted for the family."""


def verdicts(found: Sequence[tuple[Claim, Estimate | None]]) -> list[Judged]:
    """What is said of each claim of a family, at 5 % over all of them (Holm).

    A claim is confirmed where the difference lies in its region by two one-sided tests, and not
    reproduced where it lies outside; preliminary on few seeds; not yet tested without any.
    """
    known = [(claim, estimate) for claim, estimate in found if estimate is not None]
    adjusted = iter(holm([_p_value(claim, estimate) for claim, estimate in known]))
    return [
        ("not yet tested", None) if estimate is None else _verdict(claim, estimate, next(adjusted))
        for claim, estimate in found
    ]


def _agrees(claim: Claim, found: Estimate) -> bool:
    return claim.low <= found.value <= claim.high


def _p_value(claim: Claim, found: Estimate) -> float:
    """Of the region, where the difference lies in it; else of what is outside."""
    judge = found.p_within if _agrees(claim, found) else found.p_outside
    return judge(claim.low, claim.high)


def _verdict(claim: Claim, found: Estimate, p_value: float) -> Judged:
    said = "undecided"
    if p_value < LEVEL:
        said = "confirmed" if _agrees(claim, found) else f"not reproduced under {SETTING}"
    return (said if found.num_seeds >= LEAST_SEEDS else f"{said}, preliminary"), p_value


def met(found: Estimate, least: float = -math.inf, most: float = math.inf) -> str:
    """Whether a target is met: by the whole interval, or by the mean alone; takes three seeds."""
    if not least <= found.value <= most:
        return MISSED
    if found.num_seeds < LEAST_SEEDS:
        return f"not yet: {found.num_seeds} of {LEAST_SEEDS} seeds"
    low, high = found.interval
    return MET if least <= low and high <= most else "by its mean"


def sure(judged: Sequence[str]) -> bool | None:
    """Whether all targets are met; None where seeds or chance still decide."""
    if MISSED in judged:
        return False
    return True if set(judged) == {MET} else None
