"""What of the cost of federation is optimization, and whether runs match: sections of findings.

A rung differs from the one that it is held against in one thing. "Matches" is a test of equivalence
in mm: two one-sided tests at 5 % with a margin of one percent of the other row's error.
"""

from dataclasses import dataclass

from pchmr.recipes.rows import BEFORE, CENTRALIZED, EVERYONE, control_of, of_clients, state_of
from pchmr.report.claims import LEAST_SEEDS, LEVEL
from pchmr.report.comparison import (
    difference_mm,
    difference_percent,
    error_at,
    first_of_id,
    of_id,
    people_error,
)
from pchmr.report.markdown import NONE, escaped, table
from pchmr.report.tables import human_bytes
from pchmr.results import ResultRow

MARGIN = 0.01
SEQUENTIAL, MINIBATCH, REDEALT = (
    control_of(name) for name in ("sequential", "minibatch", "redealt")
)
HUNDRED, THOUSAND = of_clients(100), of_clients(1000)
WITH_AVERAGE = {of_clients(number): state_of(number, "average") for number in (10, 100, 1000)}
WITH_OWN = {of_clients(number): state_of(number, "keep") for number in (10, 100)}


@dataclass(frozen=True)
class Rung:
    """A row, the row that it is held against, and what is between them."""

    row: str
    against: str
    change: str


TO_CLIENTS = (
    Rung(SEQUENTIAL, CENTRALIZED, "the order of images alone"),
    Rung(MINIBATCH, SEQUENTIAL, "ten batches in one step, a tenth of the steps"),
    Rung(REDEALT, MINIBATCH, "local steps, then a mean"),
    Rung(WITH_AVERAGE[EVERYONE], REDEALT, "images stay with their client"),
)
RUNGS = (
    *TO_CLIENTS,
    Rung(WITH_AVERAGE[HUNDRED], WITH_AVERAGE[EVERYONE], "10 of 100 take part in a round"),
    Rung(WITH_OWN[EVERYONE], WITH_AVERAGE[EVERYONE], "state: each client keeps its own"),
    Rung(EVERYONE, WITH_AVERAGE[EVERYONE], "state: forgotten after every round"),
    Rung(WITH_OWN[HUNDRED], WITH_AVERAGE[HUNDRED], "state of 100: each keeps its own"),
    Rung(HUNDRED, WITH_AVERAGE[HUNDRED], "state of 100: forgotten"),
)
PAIRS = (
    Rung(WITH_AVERAGE[EVERYONE], CENTRALIZED, "as many images"),
    Rung(WITH_AVERAGE[HUNDRED], CENTRALIZED, "as many images"),
    Rung(WITH_AVERAGE[THOUSAND], CENTRALIZED, "as many images"),
    Rung(EVERYONE, CENTRALIZED, "as many images, state forgotten"),
    Rung(MINIBATCH, CENTRALIZED, "as many images: what fewer steps cost"),
    Rung(WITH_AVERAGE[EVERYONE], MINIBATCH, "as many images and steps: federation's own share"),
    Rung(THOUSAND, MINIBATCH, "as many images, four times the steps: the share of 1000 clients"),
    Rung(WITH_AVERAGE[THOUSAND], MINIBATCH, "the same, state averaged"),
)


def ladder_section(rows: list[ResultRow]) -> str:
    """What each change costs, from centralized to federated training."""
    header = ["row", "against", "what changes", "seeds", "difference, mm", "difference, %"]
    lines = [line for rung in RUNGS if (line := _line(rung, rows)) is not None]
    return f"{table(header, lines)}\n" if lines else ""


def bytes_section(rows: list[ResultRow]) -> str:
    """Averaged state against forgotten state at as many bytes as the latter moved."""
    before, lines = first_of_id(rows, BEFORE), []
    for name in (EVERYONE, HUNDRED, THOUSAND):
        plain, averaged = of_id(rows, name), of_id(rows, WITH_AVERAGE[name])
        pairs = [
            (end.mpjpe_mm, error_at(averaged[seed], before, end.num_bytes), end.num_bytes)
            for seed, row in plain.items()
            if seed in averaged and row.curve and (end := row.curve[-1])
        ]
        known = [(a, b, moved) for a, b, moved in pairs if b is not None]
        if known:
            a, b, moved = (sum(values) / len(known) for values in zip(*known, strict=True))
            label = escaped(next(iter(plain.values())).label)
            lines.append([label, str(len(known)), human_bytes(moved), f"{a:.1f}", f"{b:.1f}"])
    header = ["row", "seeds", "bytes moved", "state forgotten, mm", "state averaged, mm"]
    note = (
        "State averaged is read off its curve, in the middle of a run that was planned for twice "
        "the bytes, its learning rate still high; a run planned for as many was not made."
    )
    return f"{table(header, lines)}\n\n{note}\n" if lines else ""


def _line(rung: Rung, rows: list[ResultRow]) -> list[str] | None:
    ours, theirs = of_id(rows, rung.row), of_id(rows, rung.against)
    found, share = difference_mm(ours, theirs), difference_percent(ours, theirs)
    if found is None:
        return None
    labels = [escaped(next(iter(members.values())).label) for members in (ours, theirs)]
    return [*labels, rung.change, str(found.num_seeds), str(found), str(share or NONE)]


def matches_section(rows: list[ResultRow]) -> str:
    """Which runs match, within a margin in mm."""
    lines = []
    for pair in PAIRS:
        line, theirs = _line(pair, rows), of_id(rows, pair.against)
        found = difference_mm(of_id(rows, pair.row), theirs)
        if line is None or found is None:
            continue
        errors = [e for row in theirs.values() if (e := people_error(row)) is not None]
        margin = MARGIN * sum(errors) / len(errors)
        p_value = found.p_within(-margin, margin)
        said = "yes" if p_value < LEVEL else "not shown"
        if p_value < LEVEL and found.num_seeds < LEAST_SEEDS:
            said = f"not yet: {found.num_seeds} of {LEAST_SEEDS} seeds"
        lines.append([*line, f"{margin:.2f}", f"{p_value:.3f}", said])
    header = ["row", "against", "what is alike", "seeds", "difference, mm", "difference, %"]
    header += ["margin, mm", "p of equivalence", "matches"]
    return f"{table(header, lines)}\n" if lines else ""
