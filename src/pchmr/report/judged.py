"""The rows of the comparisons in a folder of results, and the paper's claims held against them.

Nothing is worded here: `findings` and `index` do that.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pchmr.recipes.comparisons import COMPARISONS, cells
from pchmr.recipes.rows import ON_DOMAIN
from pchmr.report.claims import CLAIMS, FAMILIES, Claim, Judged, verdicts
from pchmr.report.comparison import difference_percent, of_id, with_gaps
from pchmr.report.crossed import Estimate
from pchmr.report.editions import edition_of
from pchmr.report.lines import marked, rows_in
from pchmr.results import AVERAGED, CONSTANT, GENDERED, ResultRow

Tables = dict[tuple[str, str], list[ResultRow]]
"""Rows by comparison and network."""


def read_tables(folder: Path) -> Tables:
    """Rows of each comparison and network, in the order of the comparisons."""
    tables: Tables = {}
    edition = edition_of(folder)
    for recipe in COMPARISONS:
        for row in marked(rows_in(folder, recipe).rows, edition):
            tables.setdefault((recipe, str(row.table)), []).append(row)
    return {place: with_gaps(_in_order(place[0], rows)) for place, rows in tables.items()}


def _in_order(recipe: str, rows: list[ResultRow]) -> list[ResultRow]:
    """Rows in the order of the comparison's cells, what a run brought along behind its own."""
    ids = list(dict.fromkeys(cell.id for cell in cells(recipe, "cpu", 1)))

    def place(row: ResultRow) -> tuple[int, bool]:
        if row.kind == CONSTANT:
            return 0, True
        run = row.of_run or row.id
        return ids.index(run) if run in ids else len(ids), row.kind in (AVERAGED, GENDERED)

    return sorted(rows, key=place)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of the paper for one network: what was found, and what is said of it."""

    claim: Claim
    family: str
    model: str
    found: Estimate | None
    judged: Judged


def judged_claims(tables: Tables) -> list[JudgedClaim]:
    """Every claim for every network that was measured, judged as one family of tests."""
    asked: list[tuple[Claim, str, str, Estimate | None]] = []
    for family, claim in product(FAMILIES, CLAIMS):
        if family not in claim.families:
            continue
        models = [m for recipe, m in tables if recipe == claim.recipe and m.startswith(family)]
        models = [model for model in models if ON_DOMAIN not in model]
        for model in models or [family]:
            rows = tables.get((claim.recipe, model), [])
            apart = difference_percent(of_id(rows, claim.ours), of_id(rows, claim.theirs))
            asked.append((claim, family, model, apart))
    judged = verdicts([(claim, found) for claim, _, _, found in asked])
    return [JudgedClaim(*one, said) for one, said in zip(asked, judged, strict=True)]
