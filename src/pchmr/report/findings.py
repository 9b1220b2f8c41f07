"""`results/findings.md`: what the comparisons say about the paper's claims, generated.

A claim is confirmed or not reproduced where its test says so at 5 % over all claims, and undecided
between. Nothing here is typed: without rows a claim is not tested.
"""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from pchmr.recipes.comparisons import MANY_TIMES, TO_PLATEAU
from pchmr.recipes.hostile import honest_row_of
from pchmr.recipes.rows import BEFORE, CENTRALIZED, LONGER
from pchmr.report.claims import (
    ANY_GAIN,
    FAMILIES,
    LEAST_SEEDS,
    NAMES,
    SETTING,
    Claim,
    Judged,
    met,
)
from pchmr.report.comparison import (
    GAP,
    TARGET_SHARE,
    BySeed,
    client_correlation,
    curve_of,
    difference_percent,
    first_of_id,
    gap_closed,
    gap_of,
    of_id,
    people_error,
    reached,
    skew_correlation,
)
from pchmr.report.crossed import Estimate
from pchmr.report.editions import edition_of
from pchmr.report.gaps import GAP_TARGETS, best_of
from pchmr.report.index import ABOUT_CLIENTS, SAID, sentences
from pchmr.report.judged import Tables, judged_claims, read_tables
from pchmr.report.ladder import bytes_section, ladder_section, matches_section
from pchmr.report.lines import marked, rows_in
from pchmr.report.markdown import NONE, escaped, table
from pchmr.report.personalized import BATCH_NORM, PFL, personal_section
from pchmr.report.tables import human_bytes
from pchmr.results import AVERAGED, FEDERATED, CurvePoint, Number, ResultRow

FINDINGS = "findings.md"
HEAD = """# Findings

Generated from the `.jsonl` files beside this page by `pchmr bench` and `pchmr report`; do not edit.
"""
HOW = f"""How runs are compared: [docs/comparison.md](../docs/comparison.md). What differs from the
paper in every row: rendered people (headset wearers of domain W, or domain B where it is told) and
an embedded body instead of Human3.6M and 3DPW with SMPL; XS networks; start weights from domain A;
few images and rounds, again and again on the same 2,000 images. What is estimated is the mean MPJPE
over people like the held-out ones and over seeds; 95 % intervals know the chance of both (people
are the same in all rows; that runs of one seed share partition and batches is not made use of).
Means over pictures, a little apart, stand in [the tables](README.md), and in curves and what is
read off them. Verdicts hold at 5 % over all claims of the table together (Holm). One on fewer than
{LEAST_SEEDS} seeds is preliminary, and no target is met on fewer; "by its mean" tells of a target
that a part of the interval misses. "Not reproduced" means under
{SETTING}. The target of budgets lies at
{100 * TARGET_SHARE:.0f} % of what centralized training gained.
"""
# Images of a comparison beside those of `client-scale`.
BUDGETS = {"convergence": f"{MANY_TIMES} times as many", "plateau": f"{TO_PLATEAU} times as many"}
# Percent of MPJPE that so many bad clients of ten may cost at most, by a robust rule and without.
ATTACK_TARGETS = {True: {1: 2.0, 3: 5.0}, False: {1: 3.0, 3: 10.0}}


def findings_markdown(folder: Path) -> str:
    """What `findings.md` should hold; depends on the JSONL files alone."""
    tables = read_tables(folder)
    own = {
        name: marked(rows_in(folder, name).rows, edition_of(folder)) for name in (PFL, BATCH_NORM)
    }
    parts = [HEAD, _opening(tables, own), HOW, _claims_table(tables)]
    for (recipe, model), rows in tables.items():
        parts.append(_comparison(recipe, model, rows))
        if recipe == "client-scale" and model.startswith("fastmetro"):
            same = [*rows, *tables.get(("optimizers", model), [])]
            more = {told: tables.get((name, model), []) for name, told in BUDGETS.items()}
            parts.append(_targets({"as `client-scale`": same} | more))
            parts += [matches_section(rows), bytes_section(rows)]
        if recipe in BUDGETS:
            parts.append(matches_section(rows))
        if recipe == "ladder":
            parts.append(ladder_section(rows))
        if recipe == "byzantine":
            parts.append(_robustness(rows))
    for name, rows in own.items():
        parts += personal_section(name, rows)
    return "\n".join(parts)


def _opening(tables: Tables, own: Mapping[str, list[ResultRow]]) -> str:
    """What was found, in ten sentences."""
    titled = {f"{recipe}: {model}": rows for (recipe, model), rows in tables.items()}
    for name, rows in own.items():
        for row in rows:
            titled.setdefault(f"{name}: {row.table}", []).append(row)
    told = sentences(ABOUT_CLIENTS, titled, tables)
    lines = [f"- **{one.about}.** {escaped(one.found.words)}{SAID[one.found.met]}" for one in told]
    return "\n".join([*lines, ""])


def _claims_table(tables: Tables) -> str:
    rows = [
        [
            f"({one.claim.place}) {FAMILIES[one.family]}: {one.claim.text}",
            escaped(one.model),
            *_judged(one.claim, one.found, one.judged),
        ]
        for one in judged_claims(tables)
    ]
    header = [
        "claim",
        "network",
        "what is compared",
        "region, %",
        "difference, %",
        "seeds, interval over",
        "p (Holm)",
        "verdict",
    ]
    note = "Claims 7 to 10 (annotation, personalization, secure aggregation) are other benchmarks'."
    return f"## Claims of the paper\n\n{table(header, rows)}\n\n{note}\n"


def _judged(claim: Claim, found: Estimate | None, judged: Judged) -> list[str]:
    """What is compared, the region, the difference, what it rests on, and the verdict."""
    region = f"{claim.low:+.0f} to {claim.high:+.0f}"
    if claim.low <= ANY_GAIN:
        region = f"at most {claim.high:+.0f}"
    basis = f"{found.num_seeds}, {found.over}" if found else NONE
    ours, theirs = NAMES[claim.ours], NAMES[claim.theirs]
    said, p_value = judged
    chance = NONE if p_value is None else f"{p_value:.3f}"
    return [
        f"{ours} against {theirs}",
        region,
        str(found or NONE),
        basis,
        chance,
        f"**{said}**",
    ]


def _comparison(recipe: str, model: str, rows: list[ResultRow]) -> str:
    """Gap closed, difference to centralized, and budgets of every row."""
    header = [
        "row",
        "seeds",
        "MPJPE over people, mm",
        "gap closed, %",
        "against centralized, %",
        "rounds",
        "images seen",
        "bytes moved",
        "rounds to target",
        "bytes to target",
    ]
    lines = [_line(rows, name) for name in dict.fromkeys(row.id for row in rows)]
    text = f"## {recipe}: {escaped(model)}\n\n{table(header, lines)}\n"
    return text + _correlations(rows) if recipe in ("lda", "natural") else text


def _line(rows: list[ResultRow], name: str) -> list[str]:
    """One row of a comparison: the cell of that id over its seeds."""
    members, central, before = (
        of_id(rows, name),
        of_id(rows, CENTRALIZED),
        first_of_id(rows, BEFORE),
    )
    label = next(iter(members.values())).label
    # The curve that a mean of late weights has is its run's own.
    drawn = {seed: row for seed, row in members.items() if row.kind != AVERAGED}
    found = [reached(row, before, central.get(seed)) for seed, row in drawn.items()]
    ends = [points[-1] for row in members.values() if (points := curve_of(row, None))]
    is_run = any(GAP in row.scores for row in members.values())
    closed = gap_of(members, before, central) if is_run else None
    apart = None if name == CENTRALIZED else difference_percent(members, central)
    numbers = [str(len(members)), _mean(members, people_error), str(closed or NONE)]
    return [escaped(label), *numbers, str(apart or NONE), *_budget(ends), *_budget_to_target(found)]


def _targets(budgets: Mapping[str, list[ResultRow]]) -> str:
    """Gaps closed against their targets, by the best row of so many clients at each budget."""
    lines = []
    for contest, target in GAP_TARGETS.items():
        for said, rows in budgets.items():
            best = best_of(rows, contest)
            if best is None:
                continue
            closed, end = best.closed, _mean(of_id(rows, CENTRALIZED), people_error)
            judged = met(closed, least=target)
            told = [escaped(best.label), str(closed.num_seeds), str(closed), judged]
            longer = _against_longer(rows, best.id)
            lines.append([NAMES[contest], f">= {target:g}", said, end, *told, longer])
    header = [
        "clients",
        "target, %",
        "images seen",
        "centralized, mm",
        "best row",
        "seeds",
        "gap closed, %",
        "met",
        f"gap to {NAMES[LONGER]}, %",
    ]
    text = (
        "The gap is that to centralized training on as many images. The best row is the one of "
        "validation people where all rows tell of these, else that of the gap itself. What was "
        "tried stands under `optimizers`, `convergence`, `plateau`, and under `tuning` in "
        "[README.md](README.md)."
    )
    return f"{table(header, lines)}\n\n{text}\n"


def _against_longer(rows: list[ResultRow], name: str) -> str:
    """Share of the gap to centralized training on twice the images, where that was measured."""
    before, longer = first_of_id(rows, BEFORE), of_id(rows, LONGER)
    return _mean(of_id(rows, name), lambda row: gap_closed(row, before, longer.get(row.seed)))


def _robustness(rows: list[ResultRow]) -> str:
    """What attacks cost, behind each defence, against honest clients that are averaged."""
    attacked = {row.id: row for row in reversed(rows) if row.defended is not None}
    lines = []
    for name, row in reversed(attacked.items()):
        found = difference_percent(of_id(rows, name), of_id(rows, honest_row_of(name)))
        target = attack_target(row)
        said = NONE
        if row.defended and found and target is not None:
            said = "yes" if found.value <= target else "**no**"
        said = "**no**, the run came to nothing" if row.failed else said
        most = NONE if target is None else f"+{target:g}"
        aside = NONE if row.quarantined is None else str(row.quarantined)
        lines.append([escaped(row.label), str(found or NONE), aside, most, said])
    header = [
        "attack and defence",
        "against honest clients, %",
        "replies set aside",
        "at most, %",
        "within it",
    ]
    return f"{table(header, lines)}\n"


def attack_target(row: ResultRow) -> float | None:
    """Percent that an attack may cost, by its number of bad clients and the aggregation rule.

    None without a defence, or where no target is set.
    """
    bad, options = row.config.get("num_bad"), row.config.get("server_options")
    if not row.defended or not isinstance(bad, int):
        return None
    rule = options if isinstance(options, Mapping) else {}
    is_robust = rule.get("aggregation_rule") not in (None, "mean") or bool(
        rule.get("trimmed_replies")
    )
    return ATTACK_TARGETS[is_robust].get(bad)


def _mean(members: BySeed, value: Callable[[ResultRow], Number | None]) -> str:
    known = [v for row in members.values() if (v := value(row)) is not None]
    return f"{statistics.fmean(known):.1f}" if known else NONE


def _budget(ends: list[CurvePoint]) -> list[str]:
    """Rounds, images and bytes of the whole run."""
    if not ends:
        return [NONE] * 3
    rounds, images, moved, _ = (statistics.fmean(values) for values in zip(*ends, strict=True))
    return [f"{rounds:.0f}", f"{images:.0f}", human_bytes(moved)]


def _budget_to_target(points: list[CurvePoint | None]) -> list[str]:
    """Rounds and bytes at which the curves reach the target, where all of them do."""
    known = [point for point in points if point is not None]
    if not known or len(known) < len(points):
        return ["not reached" if points else NONE] * 2
    rounds = statistics.fmean(point.place for point in known)
    return [f"{rounds:.1f}", human_bytes(statistics.fmean(point.num_bytes for point in known))]


def _correlations(rows: list[ResultRow]) -> str:
    dealt = [row for row in rows if row.kind == FEDERATED]
    runs, clients = skew_correlation(dealt), client_correlation(dealt)
    said = []
    if runs:
        said.append(f"of a run's MPJPE with its mean label skew {runs[0]:+.2f} ({runs[1]} runs)")
    if clients is not None:
        said.append(f"of a client's error with its own skew {clients:+.2f} (mean over runs)")
    return f"\nRank correlation (Spearman) {'; '.join(said)}.\n" if said else ""
