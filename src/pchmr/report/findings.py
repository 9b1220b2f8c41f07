"""`results/findings.md`: what the comparisons say about the paper's claims, generated.

A claim is confirmed where the whole interval lies in the region that the claim names, refuted where
none of it does, and undecided between. Nothing here is typed: without rows a claim is not tested.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pchmr.recipes.comparisons import ALPHAS, COMPARISONS, MANY_TIMES, cells
from pchmr.recipes.rows import EVERYONE, LONGER, NATURAL_CLIENTS
from pchmr.report.comparison import (
    BEFORE,
    CENTRALIZED,
    GAP,
    TARGET_SHARE,
    Interval,
    client_correlation,
    curve_of,
    difference_percent,
    error_of,
    gap_closed,
    of_cell,
    reached,
    skew_correlation,
    with_gaps,
)
from pchmr.report.lines import Line, lines_of, marked
from pchmr.report.tables import human_bytes

FINDINGS = "findings.md"
LEAST_SEEDS = 3
HEAD = f"""# Findings

Generated from the `.jsonl` files beside this page by `pchmr bench` and `pchmr report`; do not edit.
How runs are compared: [docs/comparison.md](../docs/comparison.md). What differs from the paper in
every row: rendered people of domain B and an embedded body instead of Human3.6M and 3DPW with
SMPL; XS networks; start weights from domain A; few images and rounds. Differences are of MPJPE in
percent with 95 % intervals, paired by seed and held-out person. A verdict on fewer than
{LEAST_SEEDS} seeds is preliminary: its interval knows nothing of chance in partition, cohorts and
training. The target of budgets lies at
{100 * TARGET_SHARE:.0f} % of what centralized training gained.
"""
NONE = "–"
IID = f"iid, 10 of {NATURAL_CLIENTS} clients"
NATURAL = f"natural, 10 of {NATURAL_CLIENTS} scenes"
HUNDRED = "10 of 100 clients"
SKEWED = f"LDA alpha {min(ALPHAS):g}, {HUNDRED}"
# Share of the gap, in percent, that FastMETRO is to close with tuned FedAvg or better.
GAP_TARGETS = {"10 of 10 clients": 95.0, HUNDRED: 85.0, "10 of 1000 clients": 70.0}
SAME_IMAGES, MORE_IMAGES = "as `client-scale`", f"{MANY_TIMES} times as many"
ATTACK_TARGET = 5.0  # percent of MPJPE that bad clients may cost behind a defence
Tables = dict[tuple[str, str], list[Line]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, and what would bear it out.

    Attributes:
        text: The claim.
        recipe: Comparison that tests it.
        ours: Cell whose error is held against that of `theirs`.
        theirs: The other cell.
        low: Least difference in percent that agrees with the claim.
        high: Largest one.
        model: First letters of the networks that it is about.
    """

    text: str
    recipe: str
    ours: str
    theirs: str
    low: float
    high: float
    model: str


def _claims() -> list[Claim]:
    found = []
    for model, said in (("fastmetro", "FastMETRO"), ("tore", "TORE (claim 3: alike)")):
        rows = (
            ("1", "10 of 10 matches or beats centralized", "client-scale", "10 of 10 clients",
             CENTRALIZED, -100.0, 1.0),
            ("2", "100 clients cost a modest amount", "client-scale", HUNDRED, CENTRALIZED,
             -100.0, 10.0),
            ("2", "1000 clients cost a modest amount", "client-scale", "10 of 1000 clients",
             CENTRALIZED, -100.0, 10.0),
            ("4", "the most skewed Dirichlet partition hurts, modestly", "lda", SKEWED, HUNDRED,
             0.0, 10.0),
            ("5", "federated fine-tuning matches centralized", "natural", IID, CENTRALIZED,
             -100.0, 1.0),
            ("6", "the natural partition costs a few percent", "natural", NATURAL, IID, 0.0, 5.0),
        )  # fmt: skip
        for place, text, recipe, ours, theirs, low, high in rows:
            found.append(
                Claim(text=f"({place}) {said}: {text}", recipe=recipe, ours=ours, theirs=theirs,
                      low=low, high=high, model=model)
            )  # fmt: skip
    return found


def findings_markdown(folder: Path) -> str:
    """What `findings.md` should hold; depends on the JSONL files alone."""
    tables = read_tables(folder)
    parts = [HEAD, _claims_table(tables)]
    for (recipe, model), lines in tables.items():
        parts.append(_comparison(recipe, model, lines))
        if recipe == "client-scale" and model.startswith("fastmetro"):
            same = [*lines, *tables.get(("optimizers", model), [])]
            more = tables.get(("convergence", model), [])
            parts.append(_targets({SAME_IMAGES: same, MORE_IMAGES: more}))
        if recipe == "byzantine":
            parts.append(_robustness(lines))
    return "\n".join(parts)


def read_tables(folder: Path) -> Tables:
    """Lines of each comparison and network, in the order of the comparisons."""
    tables: Tables = {}
    for recipe in COMPARISONS:
        path = folder / f"{recipe}.jsonl"
        for line in marked(lines_of(path) if path.exists() else []):
            tables.setdefault((recipe, str(line.get("table"))), []).append(line)
    return {place: with_gaps(_in_order(place[0], lines)) for place, lines in tables.items()}


def _in_order(recipe: str, lines: list[Line]) -> list[Line]:
    """Lines in the order of the comparison's cells, what a run brought along behind its own."""
    names = list(dict.fromkeys(cell.name for cell in cells(recipe, "cpu", 1)))

    def place(line: Line) -> tuple[int, bool]:
        own = [
            i for i, name in enumerate(names)
            if line.get("cell") == name or str(line.get("cell")).startswith(f"{name}, weights")
        ]  # fmt: skip
        if line.get("kind") == "constant":
            return 0, True
        return own[0] if own else len(names), line.get("kind") == "averaged"

    return sorted(lines, key=place)


def verdict(found: Interval | None, low: float, high: float) -> str:
    """Confirmed, refuted or undecided, preliminary on few seeds; not yet tested without any."""
    if found is None:
        return "not yet tested"
    said = "refuted" if found.high < low or found.low > high else "undecided"
    if low <= found.low and found.high <= high:
        said = "confirmed"
    return said if found.num_seeds >= LEAST_SEEDS else f"{said}, preliminary"


def _claims_table(tables: Tables) -> str:
    rows = []
    for claim in _claims():
        models = [m for recipe, m in tables if recipe == claim.recipe and m.startswith(claim.model)]
        for model in models or [claim.model]:
            lines = tables.get((claim.recipe, model), [])
            found = difference_percent(of_cell(lines, claim.ours), of_cell(lines, claim.theirs))
            region = f"{claim.low:+.0f} to {claim.high:+.0f}"
            if claim.low <= -100:
                region = f"at most {claim.high:+.0f}"
            basis = f"{found.num_seeds}, {found.over}" if found else NONE
            said = verdict(found, claim.low, claim.high)
            rows.append([
                claim.text, model, f"{claim.ours} against {claim.theirs}", region,
                str(found or NONE), basis, f"**{said}**",
            ])  # fmt: skip
    header = ["claim", "network", "what is compared", "region, %", "difference, %",
              "seeds, interval over", "verdict"]  # fmt: skip
    note = "Claims 7 to 10 (annotation, personalization, secure aggregation) are other benchmarks'."
    return f"## Claims of the paper\n\n{_markdown(header, rows)}\n\n{note}\n"


def _comparison(recipe: str, model: str, lines: list[Line]) -> str:
    """Gap closed, difference to centralized, and budgets of every row."""
    central, before = of_cell(lines, CENTRALIZED), next(iter(of_cell(lines, BEFORE).values()), None)
    rows = []
    for cell in dict.fromkeys(str(line.get("cell")) for line in lines):
        members = of_cell(lines, cell)
        found = [reached(line, before, central.get(seed)) for seed, line in members.items()]
        apart = None if cell == CENTRALIZED else difference_percent(members, central)
        ends = [points[-1] for line in members.values() if (points := curve_of(line, None))]
        rows.append([
            cell, str(len(members)), _mean(members, error_of), _mean(members, _gap),
            str(apart or NONE), *_budget(ends), *_way(found),
        ])  # fmt: skip
    header = ["row", "seeds", "MPJPE", "gap closed, %", "against centralized, %", "rounds",
              "images seen", "bytes moved", "rounds to target", "bytes to target"]  # fmt: skip
    text = f"## {recipe}: {model}\n\n{_markdown(header, rows)}\n"
    return text + _correlations(lines) if recipe in ("lda", "natural") else text


def _targets(budgets: Mapping[str, list[Line]]) -> str:
    """Gaps closed against their targets, by the best row of so many clients at each budget."""
    rows = []
    for cell, target in GAP_TARGETS.items():
        for said, lines in budgets.items():
            best, *found = _best(lines, cell, target)
            if best == NONE:
                continue
            central = _mean(of_cell(lines, CENTRALIZED), error_of)
            against_longer = _against_longer(lines, best)
            rows.append([cell, f">= {target:g}", said, central, best, *found, against_longer])
    header = ["clients", "target, %", "images seen", "centralized, mm", "best row", "seeds",
              "gap closed, %", "met", f"gap to {LONGER}, %"]  # fmt: skip
    text = (
        "The gap is that to centralized training of the same seed on as many images. What was "
        "tried stands under `optimizers`, `convergence`, and under `tuning` in "
        "[README.md](README.md)."
    )
    return f"{_markdown(header, rows)}\n\n{text}\n"


def _against_longer(lines: list[Line], cell: str) -> str:
    """Share of the gap to centralized training on twice the images, where that was measured."""
    before, longer = next(iter(of_cell(lines, BEFORE).values()), None), of_cell(lines, LONGER)
    return _mean(
        of_cell(lines, cell), lambda line: gap_closed(line, before, longer.get(line.get("seed")))
    )


def _best(lines: list[Line], cell: str, target: float) -> tuple[str, str, str, str]:
    """The row of so many clients that closes most of the gap, its seeds, how much it closes, and
    whether it suffices.
    """
    gaps = {}
    for name in {str(line.get("cell")) for line in lines}:
        known = [g for line in of_cell(lines, name).values() if (g := _gap(line)) is not None]
        if known and (name == cell or name.startswith(f"{cell}, fed")):
            gaps[name] = (statistics.fmean(known), len(known))
    if not gaps:
        return NONE, NONE, NONE, NONE
    best = max(gaps, key=lambda name: gaps[name])
    closed, seeds = gaps[best]
    return best, str(seeds), f"{closed:.1f}", "yes" if closed >= target else "**no**"


def _robustness(lines: list[Line]) -> str:
    """What attacks cost, behind each defence, against honest clients that are averaged."""
    honest = of_cell(lines, EVERYONE)
    rows = []
    for line in lines:
        config = line.get("config", {})
        if "attack" not in config or any(line["cell"] == row[0] for row in rows):
            continue
        found = difference_percent(of_cell(lines, str(line["cell"])), honest)
        said = NONE
        if config["gate"] and found:
            said = "yes" if found.mean <= ATTACK_TARGET else "**no**"
        said = "**no**, the run came to nothing" if line.get("failed") else said
        rows.append(
            [str(line["cell"]), str(found or NONE), str(line.get("quarantined", NONE)), said]
        )
    header = ["attack and defence", f"against {EVERYONE}, honest, %", "replies set aside",
              f"at most +{ATTACK_TARGET:g} %"]  # fmt: skip
    return f"{_markdown(header, rows)}\n"


def _gap(line: Line) -> float | None:
    return line["scores"].get(GAP)


def _mean(members: dict[object, Line], value: Callable[[Line], float | None]) -> str:
    known = [v for line in members.values() if (v := value(line)) is not None]
    return f"{statistics.fmean(known):.1f}" if known else NONE


def _budget(ends: list[list[float]]) -> list[str]:
    """Rounds, images and bytes of the whole run."""
    if not ends:
        return [NONE] * 3
    rounds, images, moved = (statistics.fmean(end[i] for end in ends) for i in range(3))
    return [f"{rounds:.0f}", f"{images:.0f}", human_bytes(moved)]


def _way(ways: list[list[float] | None]) -> list[str]:
    known = [way for way in ways if way is not None]
    if not known or len(known) < len(ways):
        return ["not reached" if ways else NONE] * 2
    return [
        f"{statistics.fmean(way[0] for way in known):.1f}",
        human_bytes(statistics.fmean(way[2] for way in known)),
    ]


def _correlations(lines: list[Line]) -> str:
    dealt = [line for line in lines if line.get("kind") == "federated"]
    runs, clients = skew_correlation(dealt), client_correlation(dealt)
    said = []
    if runs:
        said.append(f"of a run's MPJPE with its mean label skew {runs[0]:+.2f} ({runs[1]} runs)")
    if clients is not None:
        said.append(f"of a client's error with its own skew {clients:+.2f} (mean over runs)")
    return f"\nRank correlation (Spearman) {'; '.join(said)}.\n" if said else ""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
