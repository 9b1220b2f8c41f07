"""The sentences that open a folder of results: ten questions, what was found, met or missed.

Nothing is typed: a sentence is made of rows, and a question without rows on today's people and
weights says so and names the benchmark. Where a sentence stands, Markdown or HTML, others decide.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pchmr.recipes.hostile import honest_row_of
from pchmr.recipes.rows import (
    CENTRALIZED,
    DEALT,
    EVERYONE,
    NATURAL,
    ON_DOMAIN,
)
from pchmr.report.claims import HUNDRED, LEAST_SEEDS, NAMES, SKEWED, THOUSAND
from pchmr.report.comparison import difference_percent, of_id
from pchmr.report.findings import GAP_TARGETS, best_of
from pchmr.report.judged import Tables, judged_claims
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


@dataclass(frozen=True)
class Sentence:
    """A question in a few words, and its answer.

    Attributes:
        about: The question.
        found: The answer.
        edition: Folder of the earlier results that it stands on; empty for today's.
    """

    about: str
    found: Found
    edition: str = ""

    def of(self, edition: str, first: str) -> "Sentence":
        """The answer of an earlier edition, behind what is said of today's."""
        words = f"{first} On those of {edition}: {self.found.words}"
        return Sentence(self.about, Found(words, self.found.titles), edition)


def sentences(titled: Titled, tables: Tables) -> list[Sentence]:
    """The ten, in a fixed order."""
    made = []
    for about, bench, answer in QUESTIONS:
        nothing = Found(f"Not measured on today's people (`pchmr bench {bench}`).", [])
        made.append(Sentence(about, answer(titled, tables) or nothing))
    return made


Answer = Callable[[Titled, Tables], Found | None]


def _claim(recipe: str, ours: str, theirs: str) -> Answer:
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
        claim = asked[0].claim
        words = (
            f"The error of {NAMES[claim.ours]} against {NAMES[claim.theirs]} is "
            f"{' and '.join(ends)}; the paper's “{claim.text}” is {_both(said, networks)}."
        )
        sure = {"confirmed": True, "not reproduced": False}
        verdicts = [sure.get(words) for words in said]
        met = None if None in verdicts else all(verdicts)
        return Found(words, [f"{recipe}: {one.model}" for one in asked], met)

    return answer


def _both(said: list[str], networks: list[str]) -> str:
    """Verdicts by network, once where they are one."""
    if len(set(said)) == 1:
        return said[0]
    return ", ".join(f"{words} on {name}" for words, name in zip(said, networks, strict=True))


def _network(model: str) -> str:
    family, _, size = model.partition("_")
    names = {"fastmetro": "FastMETRO", "tore": "TORE"}
    return f"{names.get(family, family)}-{size.upper()}"


def _tuned(titled: Titled, tables: Tables) -> Found | None:
    """Share of the gap that the best rule found closes, by number of clients."""
    told, kept, used = [], [], []
    for (recipe, model), rows in tables.items():
        if recipe != "client-scale" or not model.startswith("fastmetro") or ON_DOMAIN in model:
            continue
        both = [*rows, *tables.get(("optimizers", model), [])]
        for contest, target in GAP_TARGETS.items():
            if best := best_of(both, contest):
                told.append(f"{best.closed:.0f} % with {NAMES[contest]} (target {target:g})")
                kept.append(best.closed >= target)
        used = [f"{name}: {model}" for name in (recipe, "optimizers")]
    if not told:
        return None
    words = f"Of the gap to centralized training the best rule closes {', '.join(told)}."
    return Found(words, [title for title in used if title in titled], all(kept))


def _attacked(titled: Titled, tables: Tables) -> Found | None:
    """The dearest attack behind a defence, and without."""
    costs: dict[bool, float] = {}
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
                costs[row.defended] = max(cost.value, costs.get(row.defended, cost.value))
    if not costs:
        return None
    told = [
        f"{costs[is_defended]:+.1f} % {words}" if is_defended in costs else f"{words} not measured"
        for is_defended, words in ((True, "behind a defence"), (False, "without one"))
    ]
    return Found(f"What the worst attack adds to the error: {', '.join(told)}.", used)


def _targets(*files: str) -> Answer:
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


def _own(titled: Titled, tables: Tables) -> Found | None:
    """Targets of personal models, and what they bring the clients that one network serves worst."""
    found = _targets("personalize")(titled, tables)
    words, titles, kept = ([found.words], [*found.titles], [found.met]) if found else ([], [], [])
    for title, rows in titled.items():
        if title.partition(":")[0] == PFL and (best := best_method(rows)):
            words.append(
                f"Of clients that train together, the worst decile is {best.lower} % lower with "
                f"{best.label} than with one network for all (target {LOWER_PERCENT:g})."
            )
            titles.append(title)
            kept.append(best.lower.value >= LOWER_PERCENT and best.lower.num_seeds >= LEAST_SEEDS)
    return Found(" ".join(words), titles, all(kept)) if words else None


def _seen(titled: Titled, tables: Tables) -> Found | None:
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


QUESTIONS: tuple[tuple[str, str, Answer], ...] = (
    ("Ten clients", "client-scale", _claim("client-scale", EVERYONE, CENTRALIZED)),
    ("A thousand clients", "client-scale", _claim("client-scale", THOUSAND, CENTRALIZED)),
    ("Skewed clients", "lda", _claim("lda", SKEWED, HUNDRED)),
    ("Clients by scene", "natural", _claim("natural", NATURAL, DEALT)),
    ("Tuned rules", "optimizers", _tuned),
    ("Bad clients", "byzantine", _attacked),
    ("Labels", "annotators", _targets("annotators")),
    ("Models of one's own", "personalize", _own),
    ("What updates tell", "audit", _seen),
    ("Speed and size", "speed", _targets("speed")),
)
"""What is asked, the benchmark that answers, and how."""
