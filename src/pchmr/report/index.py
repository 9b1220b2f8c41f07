"""The sentences that open a folder of results, and its findings: ten questions each, and answers.

Nothing is typed: a sentence is made of rows, and a question without rows on today's people and
weights says so and names the benchmark. Where a sentence stands, Markdown or HTML, others decide.
"""

from dataclasses import dataclass

from pchmr.recipes.comparisons import TO_PLATEAU
from pchmr.recipes.rows import CENTRALIZED, DEALT, EVERYONE, NATURAL
from pchmr.report.answers import (
    Answer,
    Found,
    Titled,
    attacked,
    both,
    claim,
    costs,
    networks,
    rungs,
    seen,
    state,
    targets,
    tuned,
)
from pchmr.report.claims import HUNDRED, SKEWED, THOUSAND, WITH_STATE
from pchmr.report.judged import Tables
from pchmr.report.ladder import MINIBATCH

SAID = {True: " Met.", False: " **Missed.**", None: ""}
Questions = tuple[tuple[str, str, Answer], ...]
"""What is asked, the benchmark that answers, and how."""


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


def sentences(questions: Questions, titled: Titled, tables: Tables) -> list[Sentence]:
    """An answer each, in the order of the questions."""
    made = []
    for about, bench, answer in questions:
        nothing = Found(f"Not measured on today's people (`pchmr bench {bench}`).", [])
        made.append(Sentence(about, answer(titled, tables) or nothing))
    return made


AT_FIRST = claim("client-scale", EVERYONE, CENTRALIZED)
AT_THE_END = costs(
    "plateau",
    f"On {TO_PLATEAU} times as many images, against centralized training on as many",
    CENTRALIZED,
    {WITH_STATE: 1.0},
)
SHARE = costs(
    "client-scale",
    "Against a control that takes the batches of ten clients in one step",
    MINIBATCH,
    {WITH_STATE: 1.5, THOUSAND: 3.0},
)
QUESTIONS: Questions = (
    ("Ten clients", "client-scale", both(AT_FIRST, AT_THE_END)),
    ("A thousand clients", "client-scale", claim("client-scale", THOUSAND, CENTRALIZED)),
    ("Skewed clients", "lda", claim("lda", SKEWED, HUNDRED)),
    ("Clients by scene", "natural", claim("natural", NATURAL, DEALT)),
    ("Tuned rules", "optimizers", tuned),
    ("Bad clients", "byzantine", attacked),
    ("Labels", "annotators", targets("annotators")),
    ("Models of one's own", "personalize", both(targets("personalize"), networks)),
    ("What updates tell", "audit", seen),
    ("Speed and size", "speed", targets("speed")),
)
"""Of a folder of results."""
ABOUT_CLIENTS: Questions = (
    ("Ten clients", "client-scale", AT_FIRST),
    ("Sixteen times the images", "plateau", AT_THE_END),
    ("Federation's own share", "ladder", both(rungs, SHARE)),
    ("State of optimizers", "client-scale", state),
    *QUESTIONS[1:6],
    ("Networks of clients' own", "pfl", networks),
)
"""Of the findings: what it costs that people stay with their clients."""
