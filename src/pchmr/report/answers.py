"""Answers in plain sentences, made of rows: what was found, and whether what was promised is kept.

An answer without rows on today's people and weights is none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pchmr.recipes.hostile import honest_row_of
from pchmr.recipes.rows import ON_DOMAIN, of_clients, state_of
from pchmr.report.claims import MET, MISSED, NAMES, met, sure
from pchmr.report.comparison import difference_percent, of_id
from pchmr.report.gaps import GAP_TARGETS, best_of
from pchmr.report.judged import Tables, judged_claims
from pchmr.report.ladder import TO_CLIENTS
from pchmr.report.personalized import LOWER_PERCENT, PFL, best_method
from pchmr.report.targets import verdicts_of
from pchmr.results import VALUE, ResultRow

SHAPE = "full-model-{view}-shape-top1"
PLAIN, SUMS = "plain", "secure-cohort-10"
Titled = Mapping[str, list[ResultRow]]
"""Rows by title of their table, those that are out of date under ids that nobody looks for."""


@dataclass(frozen=True)
class Found:
    """An answer.

    Attributes:
        words: One sentence.
        titles: Of the tables that it stands on.
        met: Whether all that was promised is kept; None where nothing is, or chance decides.
    """

    words: str
    titles: list[str]
    met: bool | None = None


Answer = Callable[[Titled, Tables], Found | None]


def claim(recipe: str, ours: str, theirs: str) -> Answer:
    """What is said of a claim of the paper, for each network."""

    def answer(titled: Titled, tables: Tables) -> Found | None:
        asked = [
            one
            for one in judged_claims(tables)
            if (one.claim.recipe, one.claim.ours, one.claim.theirs) == (recipe, ours, theirs)
            and one.found is not None
        ]
        if not asked:
            return None
        networks = [_network(one.model) for one in asked]
        ends = [f"{one.found} % on {name}" for one, name in zip(asked, networks, strict=True)]
        said = [one.judged[0].split(" under ")[0] for one in asked]
        text = asked[0].claim.text
        words = (
            f"The error of {NAMES[ours]} against {NAMES[theirs]} is {' and '.join(ends)}; "
            f"the paper's “{text}” is {_once(said, networks)}."
        )
        known = {"confirmed": True, "not reproduced": False}
        verdicts = [known.get(words) for words in said]
        is_borne_out = None if None in verdicts else all(verdicts)
        return Found(words, [f"{recipe}: {one.model}" for one in asked], is_borne_out)

    return answer


def _once(said: list[str], networks: list[str]) -> str:
    """Verdicts by network, once where they are one."""
    if len(set(said)) == 1:
        return said[0]
    return ", ".join(f"{words} on {name}" for words, name in zip(said, networks, strict=True))


def _network(model: str) -> str:
    family, _, size = model.partition("_")
    names = {"fastmetro": "FastMETRO", "tore": "TORE"}
    return f"{names.get(family, family)}-{size.upper()}"


def tuned(titled: Titled, tables: Tables) -> Found | None:
    """Share of the gap that the best rule found closes, by number of clients."""
    told, kept, used = [], [], []
    for model, rows in _leading("client-scale", tables):
        both = [*rows, *tables.get(("optimizers", model), [])]
        for contest, target in GAP_TARGETS.items():
            if best := best_of(both, contest):
                kept.append(met(best.closed, least=target))
                told.append(f"{best.closed} % by {best.label} ({_promise(target, kept[-1])})")
        used = [f"{name}: {model}" for name in ("client-scale", "optimizers")]
    if not told:
        return None
    words = f"Of the gap to centralized training the best rules close {', '.join(told)}."
    return Found(words, [title for title in used if title in titled], sure(kept))


def _promise(target: float, judged: str) -> str:
    """The target, and how it is met where that is not simply so."""
    return f"target {target:g}" + ("" if judged in (MET, MISSED) else f", {judged}")


def costs(recipe: str, said: str, theirs: str, most: Mapping[str, float]) -> Answer:
    """What rows cost beside another, in percent, and what they may at most."""

    def answer(titled: Titled, tables: Tables) -> Found | None:
        told, kept, used = [], [], []
        for model, rows in _leading(recipe, tables):
            for name, target in most.items():
                members = of_id(rows, name)
                if cost := difference_percent(members, of_id(rows, theirs)):
                    kept.append(met(cost, most=target))
                    told.append(f"{_label(members)} {cost} % ({_promise(target, kept[-1])})")
                    used.append(f"{recipe}: {model}")
        if not told:
            return None
        return Found(f"{said}: {', '.join(told)}.", list(dict.fromkeys(used)), sure(kept))

    return answer


def rungs(titled: Titled, tables: Tables) -> Found | None:
    """What each change costs on the way from centralized training to clients."""
    told, used = [], []
    for model, rows in _leading("ladder", tables):
        for rung in TO_CLIENTS:
            if cost := difference_percent(of_id(rows, rung.row), of_id(rows, rung.against)):
                told.append(f"{rung.change} {cost} %")
                used.append(f"ladder: {model}")
    if not told:
        return None
    words = "One change after the other from centralized training to 10 of 10 clients"
    return Found(f"{words}: {'; '.join(told)}.", list(dict.fromkeys(used)))


def state(titled: Titled, tables: Tables) -> Found | None:
    """What it changes that clients' optimizers go on from their average."""
    told, used = [], []
    for model, rows in _leading("client-scale", tables):
        for number in (10, 100, 1000):
            plain = of_id(rows, of_clients(number))
            if change := difference_percent(of_id(rows, state_of(number, "average")), plain):
                told.append(f"{_label(plain)} {change} %")
                used.append(f"client-scale: {model}")
    if not told:
        return None
    words = "Averaging the state of clients' optimizers in place of forgetting it changes the error"
    return Found(f"{words} by: {', '.join(told)}.", list(dict.fromkeys(used)))


def _leading(recipe: str, tables: Tables) -> list[tuple[str, list[ResultRow]]]:
    """Rows of the network that decides targets, on the people of most comparisons."""
    return [
        (model, rows)
        for (name, model), rows in tables.items()
        if name == recipe and model.startswith("fastmetro") and ON_DOMAIN not in model
    ]


def _label(members: Mapping[int | None, ResultRow]) -> str:
    return next(iter(members.values())).label


def attacked(titled: Titled, tables: Tables) -> Found | None:
    """The dearest attack behind a defence, and without."""
    dearest: dict[bool, tuple[float, str]] = {}
    used = []
    for (recipe, model), rows in tables.items():
        if recipe != "byzantine":
            continue
        used.append(f"{recipe}: {model}")
        for row in rows:
            if row.defended is None:
                continue
            cost = difference_percent(of_id(rows, row.id), of_id(rows, honest_row_of(row.id)))
            if cost is not None:
                one = cost.value, f"{cost} % ({row.label})"
                dearest[row.defended] = max(one, dearest.get(row.defended, one))
    if not dearest:
        return None
    told = [
        f"{words} {dearest[is_defended][1] if is_defended in dearest else 'not measured'}"
        for is_defended, words in ((True, "behind a defence"), (False, "without one"))
    ]
    return Found(f"What the worst attack adds to the error: {', '.join(told)}.", used)


def targets(*files: str) -> Answer:
    """How many targets are met in tables of some files, and the one that is farthest off."""

    def answer(titled: Titled, tables: Tables) -> Found | None:
        held = {
            title: verdicts
            for title, rows in titled.items()
            if title.partition(":")[0] in files and (verdicts := verdicts_of(rows))
        }
        every = [verdict for verdicts in held.values() for verdict in verdicts]
        if not every:
            return None
        missed = [verdict for verdict in every if not verdict.is_met]
        words = f"{len(every) - len(missed)} of {len(every)} targets are met"
        if missed:
            worst = max(missed, key=lambda verdict: verdict.distance)
            value = f"{worst.mean:.4g} {worst.row.unit or ''}".strip()
            words += f"; farthest off is {worst.row.label}: {value} (target {worst.target})"
        return Found(f"{words}.", list(held), not missed)

    return answer


def networks(titled: Titled, tables: Tables) -> Found | None:
    """What networks of clients' own bring those that one network serves worst."""
    told, used, kept = [], [], []
    for title, rows in titled.items():
        if title.partition(":")[0] == PFL and (best := best_method(rows)):
            kept.append(met(best.lower, least=LOWER_PERCENT))
            told.append(
                f"Of clients that train together, the worst decile is {best.lower} % lower with "
                f"{best.label} than with one network for all "
                f"({_promise(LOWER_PERCENT, kept[-1])})."
            )
            used.append(title)
    return Found(" ".join(told), used, sure(kept)) if told else None


def both(first: Answer, second: Answer) -> Answer:
    """One answer behind the other; kept where both are."""

    def answer(titled: Titled, tables: Tables) -> Found | None:
        made = [one for ask in (first, second) if (one := ask(titled, tables))]
        if not made:
            return None
        kept = [one.met for one in made]
        titles = [title for one in made for title in one.titles]
        judged = False if False in kept else None if None in kept else True
        return Found(" ".join(one.words for one in made), titles, judged)

    return answer


def seen(titled: Titled, tables: Tables) -> Found | None:
    """How often a server picks the person behind an update, from single ones and from sums."""
    rows = titled.get("audit", [])
    known = {
        view: row
        for view in (PLAIN, SUMS)
        for row in rows
        if row.id == SHAPE.format(view=view) and VALUE in row.measures
    }
    if PLAIN not in known or SUMS not in known:
        return None
    single, summed = (known[view].measures for view in (PLAIN, SUMS))
    chance = 100 * summed.get("chance", 0)
    words = (
        f"A server picks the right person's shape among others in {100 * single[VALUE]:.0f} % of "
        f"cases by single updates, in {100 * summed[VALUE]:.0f} % by sums of ten (chance: "
        f"{chance:.0f} %)."
    )
    return Found(words, ["audit"])
