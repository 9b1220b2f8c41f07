"""The paper's claims: where a difference of two rows must lie for each, and what is said of it."""

from dataclasses import dataclass

from pchmr.recipes.comparisons import ALPHAS, of_alpha
from pchmr.recipes.rows import (
    CENTRALIZED,
    DEALT,
    EVERYONE,
    LONGER,
    NATURAL,
    NATURAL_CLIENTS,
    of_clients,
)
from pchmr.report.comparison import Interval

LEAST_SEEDS = 3
HUNDRED, THOUSAND = of_clients(100), of_clients(1000)
SKEWED = of_alpha(min(ALPHAS))
# What to call the rows that claims and targets are about, measured or not.
NAMES = {
    CENTRALIZED: "centralized",
    LONGER: "centralized, twice as long",
    **{of_clients(number): f"10 of {number} clients" for number in (10, 100, 1000)},
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
    """

    place: int
    text: str
    recipe: str
    ours: str
    theirs: str
    low: float
    high: float


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
FAMILIES = {"fastmetro": "FastMETRO", "tore": "TORE (claim 3: alike)"}


def verdict(found: Interval | None, low: float, high: float) -> str:
    """Confirmed, refuted or undecided, preliminary on few seeds; not yet tested without any."""
    if found is None:
        return "not yet tested"
    said = "refuted" if found.high < low or found.low > high else "undecided"
    if low <= found.low and found.high <= high:
        said = "confirmed"
    return said if found.num_seeds >= LEAST_SEEDS else f"{said}, preliminary"
