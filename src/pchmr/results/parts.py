"""What a row of results is made of: targets, points of a curve, starts, recipes, machines."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

Number = int | float
Scalar = str | bool | Number | None
LARGEST = 1e15
"""No figure is larger: what claims to be is nonsense, and sums of it would overflow."""
JUDGES: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
_BOUND = re.compile(r"\s*(<=|>=|==|<|>)?\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\s*\(|\s*$)")
_TOTAL = re.compile(r"of (\d+)\b")


@dataclass(frozen=True)
class Target:
    """What a figure is promised to be.

    Attributes:
        op: One of `JUDGES`; empty where nothing is promised.
        bound: What the figure is held against.
        text: How the promise is written, where that is not operator and bound.
    """

    op: str
    bound: Number | None = None
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{self.op} {self.bound}".removeprefix("== ")

    def judge(self, value: Number) -> bool | None:
        """Whether the value keeps the promise; None where there is none. NaN keeps no promise."""
        if self.op not in JUDGES or self.bound is None:
            return None
        return JUDGES[self.op](value, self.bound)

    @classmethod
    def parse(cls, text: str, unit: str = "") -> "Target":
        """A target as version 0.1 wrote it: `<= 15`, `0`, or `all` of as many as the unit says."""
        total = _TOTAL.search(unit)
        if text == "all" and total:
            return cls("==", int(total[1]), text)
        found = _BOUND.match(text)
        bound = None if found is None else number(_number_in(found[2]))
        if found is None or bound is None:
            return cls("", None, text)
        return cls(found[1] or "==", bound, text)


MEASURED = Target("", None, "measured")
"""Nothing is promised; the figure is only told."""


class CurvePoint(NamedTuple):
    """A score on the way.

    Attributes:
        place: Rounds or epochs behind.
        num_seen: Images trained on so far.
        num_bytes: Moved so far, both directions.
        mpjpe_mm: The score.
    """

    place: Number
    num_seen: Number
    num_bytes: Number
    mpjpe_mm: Number


@dataclass(frozen=True)
class Start:
    """Weights that a run started from: kind (`shipped`, `checkpoint`, `random`), name, hash."""

    kind: str | None = None
    name: str | None = None
    file: str | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, told: Mapping[str, object]) -> "Start":
        """What a run says of its weights (`StartedFrom`), as a row holds it."""
        held = {spec.name: told.get(spec.name) for spec in fields(cls)}
        return cls(**{name: None if value is None else str(value) for name, value in held.items()})


@dataclass(frozen=True)
class Recipe:
    """How the people were rendered: the hash of each world, by domain."""

    version: int | None = None
    worlds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hardware:
    """What a row was measured on."""

    cpu: str | None = None
    gpu: str | None = None
    cpu_count: int | None = None
    threads: int | None = None


def number(value: object) -> Number | None:
    """The value where it is a number that can be a figure."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) <= LARGEST else None


def _number_in(digits: str) -> Number | None:
    try:
        return int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    except ValueError:
        return None
