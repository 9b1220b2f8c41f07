"""What personalization brought the worst off: a section of the findings.

The best method is the one with the least error of the clients that choose, among those with the
most seeds; it is then held against one network for all by the 0.9 quantile of the clients' errors,
seed by seed.
"""

import statistics
from dataclasses import dataclass

import numpy as np

from pchmr.recipes.personal import GLOBAL
from pchmr.report.claims import met
from pchmr.report.crossed import Estimate, linear
from pchmr.report.markdown import NONE, escaped, table
from pchmr.results import Number, ResultRow

PFL, BATCH_NORM, WORST = "pfl", "batch-norm", "own_worst_decile_mm"
LOWER_PERCENT = 15.0
SHOWN = {
    "own_mm": "own images, mm",
    WORST: "worst decile, mm",
    "own_sd_mm": "spread, mm",
    "newcomers_mm": "newcomers, mm",
    "newcomers_worst_decile_mm": "their worst decile, mm",
    "forgotten_mm": "forgotten of others, mm",
}


def personal_section(name: str, rows: list[ResultRow]) -> list[str]:
    """Every method over its seeds; of `pfl` also the best against one network for all."""
    parts = []
    for model in dict.fromkeys(str(row.table) for row in rows):
        own = [row for row in rows if str(row.table) == model]
        best = [_best(own)] if name == PFL else []
        parts.append("\n\n".join([f"## {name}: {escaped(model)}", _methods(own), *best]) + "\n")
    return parts


def _by_method(rows: list[ResultRow]) -> dict[str, list[ResultRow]]:
    found: dict[str, list[ResultRow]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row)
    return found


def _methods(rows: list[ResultRow]) -> str:
    lines = []
    for members in _by_method(rows).values():
        shown = [_mean(members, name) for name in SHOWN]
        lines.append([escaped(members[0].label), str(len(members)), *shown])
    return table(["method", "seeds", *SHOWN.values()], lines)


def _mean(members: list[ResultRow], name: str) -> str:
    values = [float(v) for row in members if (v := row.scores.get(name)) is not None]
    return f"{statistics.fmean(values):.1f}" if values else NONE


def _best(rows: list[ResultRow]) -> str:
    """The method that the choosing clients prefer, held against one network for all."""
    best = best_method(rows)
    if best is None:
        return "No method stands beside one network for all yet."
    judged = met(best.lower, least=LOWER_PERCENT)
    return (
        f"Worst decile of clients with the best method by the clients that choose "
        f"({escaped(best.label)}), lower than with one network for all by {best.lower} % over "
        f"{best.lower.num_seeds} seeds; target >= {LOWER_PERCENT:g} %: {judged}."
    )


@dataclass(frozen=True)
class BestMethod:
    """What the choosing clients prefer.

    Attributes:
        label: Of the method.
        lower: By how many percent the worst decile of clients is lower than with one network.
    """

    label: str
    lower: Estimate


def best_method(rows: list[ResultRow]) -> BestMethod | None:
    """The best of a network's methods; None where none stands beside one network for all."""
    methods = _by_method(rows)
    rivals = {name: members for name, members in methods.items() if name != GLOBAL}
    if GLOBAL not in methods or not rivals:
        return None
    most = max(map(len, rivals.values()))
    whole = [name for name, members in rivals.items() if len(members) == most]
    best = rivals[min(whole, key=lambda name: _chosen_by(rivals[name]))]
    found = lowered(best, methods[GLOBAL])
    return None if found is None else BestMethod(best[0].label, found)


def _chosen_by(members: list[ResultRow]) -> float:
    values = [float(v) for row in members if (v := row.scores.get("choosing_mm")) is not None]
    return statistics.fmean(values) if values else float("inf")


def lowered(ours: list[ResultRow], theirs: list[ResultRow]) -> Estimate | None:
    """By how many percent the worst decile is lower, over seeds that both have."""
    known = {row.seed: row.scores.get(WORST) for row in theirs}
    pairs: list[tuple[Number, Number]] = []
    for row in ours:
        a, b = row.scores.get(WORST), known.get(row.seed)
        if a is not None and b:
            pairs.append((a, b))
    if not pairs:
        return None
    shares = np.array([[100 * (1 - a / b)] for a, b in pairs])
    return linear(float(shares.mean()), (shares,), (1.0,))
