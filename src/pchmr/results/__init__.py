"""The row of a result: what `bench` writes, one JSON line each, and `report` reads.

A row is found by its `id` and `kind`; its `label` is for people and for nothing else. Reading
raises on nothing: a value of another type than the field's is absent. Rows of version 0.1, which
have a `figure` or `cell` in place of id and label and may have a `value` in place of scores, are
read as well. Nothing here opens a file.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pchmr.results.parts import (
    MEASURED,
    CurvePoint,
    Hardware,
    Number,
    Recipe,
    Scalar,
    Start,
    Target,
    number,
)
from pchmr.results.reading import READERS, text

__all__ = [
    "MEASURED",
    "CurvePoint",
    "Hardware",
    "Number",
    "Recipe",
    "ResultRow",
    "Scalar",
    "Start",
    "Target",
    "figure",
    "number",
    "slug",
    "text",
]

VALUE = "value"
"""Name of the one score of a row that has a single figure."""
FIGURE = "figure"
BEFORE, CONSTANT = "before", "constant"
CENTRALIZED, AVERAGED, FEDERATED = "centralized", "averaged", "federated"
CONTROL = "control"
GENDERED = "gendered"
VALIDATION = "validation_mpjpe_mm"
"""Score on people by which settings and the best of several rows are chosen."""


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A figure, or the scores of one cell of a comparison with one seed.

    Attributes:
        id: What is measured; equal for the seeds of a cell and for a figure measured again.
        label: Its name for people; nothing is looked up by it.
        kind: `figure`, `trial`, or what a comparison's row is (`before`, `centralized`, ...).
        table: Where it stands within its file.
        seed: Of the run.
        scores: Numbers by name; None where a score could not be had.
        unit: Of the single figure.
        target: What the figure is promised to be.
        paper: What the paper printed for this row, on its own data.
        differs: What the row has in place of the paper's people, body and weights.
        of_run: Id of the cell whose run brought the row along.
        contest: Rows that compete for one target share it.
        defended: Whether bad clients met a defence; None where no client is bad.
        failed: Why a run came to nothing.
        n: People that the figure is over.
        intervals: 95 % intervals by score.
        noise: Settings of the oracle's noise.
        key: Hash of all that decides the run, for cells that are not to be run again.
        chosen: Settings that short runs chose.
        people_mm: MPJPE of every held-out person, in a fixed order.
        curve: Scores on the way.
        quarantined: Replies set aside.
        clients_mm: Mean MPJPE on images of some clients.
        client_skew: Label skew of the same clients.
        mean_skew: Label skew over all clients.
        client_samples: Images of the smallest and of the largest client.
        partition_sha256: Who held which people.
        model_sha256: Weights at the end.
        started_from: Weights at the start.
        recipe: How the people were rendered.
        cpu_seconds: Of the run.
        seconds: Of the run, by the clock.
        config: Settings of the run, for replay only: nobody looks into it.
        commit: Of the code.
        packages: Versions.
        hardware: Of the machine.
        measured: When, UTC.
    """

    id: str
    label: str
    kind: str = FIGURE
    table: str | None = None
    seed: int | None = None
    scores: Mapping[str, Number | None] = field(default_factory=dict)
    unit: str | None = None
    target: Target | None = None
    paper: str | None = None
    differs: str | None = None
    of_run: str | None = None
    contest: str | None = None
    defended: bool | None = None
    failed: str | None = None
    n: int | None = None
    intervals: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    noise: Mapping[str, Scalar] = field(default_factory=dict)
    key: str | None = None
    chosen: Mapping[str, Scalar] = field(default_factory=dict)
    people_mm: tuple[Number, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    quarantined: int | None = None
    clients_mm: tuple[Number, ...] = ()
    client_skew: tuple[Number, ...] = ()
    mean_skew: Number | None = None
    client_samples: tuple[Number, ...] = ()
    partition_sha256: str | None = None
    model_sha256: str | None = None
    started_from: Start | None = None
    recipe: Recipe | None = None
    cpu_seconds: Number | None = None
    seconds: Number | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    commit: str | None = None
    packages: Mapping[str, Scalar] = field(default_factory=dict)
    hardware: Hardware | None = None
    measured: str | None = None

    @property
    def worlds(self) -> Mapping[str, str]:
        """Hash of each rendered world that the people are from."""
        return self.recipe.worlds if self.recipe else {}

    @property
    def measures(self) -> dict[str, Number]:
        """The scores that are known."""
        return {name: value for name, value in self.scores.items() if value is not None}

    def to_json(self) -> dict[str, object]:
        """Plain values by name; what is as it is by default is left out."""
        return _written(self)

    @classmethod
    def from_json(cls, raw: object) -> "ResultRow | None":
        """The row that an object holds; None where it names nothing."""
        if not isinstance(raw, dict):
            return None
        label = text(raw.get("label", raw.get("figure", raw.get("cell"))))
        if label is None:
            return None
        known = {
            name: value
            for name, read in READERS.items()
            if (value := read(raw.get(name))) is not None
        }
        if not known.get("scores") and (value := number(raw.get(VALUE))) is not None:
            known["scores"] = {VALUE: value}
        if isinstance(target := raw.get("target"), (str, int, float)):
            known["target"] = Target.parse(str(target), str(raw.get("unit")))
        return cls(**{"id": slug(label), "kind": FIGURE, **known, "label": label})


def slug(words: str) -> str:
    """Words as an id or file name: letters, digits and `._+%-` only, at most a hundred."""
    return re.sub(r"[^\w.+%-]+", "-", words, flags=re.ASCII).strip("-.")[:100]


def figure(label: str, value: Number, unit: str, target: Target | None = None) -> ResultRow:
    """A row of one figure, whose id is made of its words.

    Nothing looks a figure up, so words that change only begin a new figure.
    """
    return ResultRow(id=slug(label), label=label, scores={VALUE: value}, unit=unit, target=target)


def _written(value: object) -> dict[str, object]:
    """Fields of a dataclass that are not as they are by default, as JSON holds them."""
    found: dict[str, object] = {}
    for spec in dataclasses.fields(value):  # type: ignore[arg-type]
        held = getattr(value, spec.name)
        if held is None or held == spec.default or held in ((), {}):
            continue
        if isinstance(held, Mapping):
            held = {n: list(v) if isinstance(v, tuple) else v for n, v in held.items()}
        elif isinstance(held, tuple):
            held = [list(v) if isinstance(v, tuple) else v for v in held]
        found[spec.name] = _written(held) if dataclasses.is_dataclass(held) else _strict(held)
    return found


def _strict(value: object) -> object:
    """The value with NaN and infinity as null."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
