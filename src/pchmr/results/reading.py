"""How each field of a row is read from plain values; what is of another type is absent."""

import dataclasses
from collections.abc import Callable

from pchmr.results.parts import (
    CurvePoint,
    Hardware,
    Number,
    Recipe,
    Scalar,
    Start,
    Target,
    number,
)


def text(value: object) -> str | None:
    """The value where it is text."""
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and number(value) is not None else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _numbers(value: object) -> tuple[Number, ...] | None:
    """A list of numbers; None where one of them is none, as places in it have a meaning."""
    if not isinstance(value, list):
        return None
    found = tuple(v for item in value if (v := number(item)) is not None)
    return found if len(found) == len(value) else None


def _mapping(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None


def _scores(value: object) -> dict[str, Number | None] | None:
    if not isinstance(value, dict):
        return None
    known = {name: number(item) for name, item in value.items()}
    return {n: v for n, v in known.items() if v is not None or value[n] is None}


def _scalars(value: object) -> dict[str, Scalar] | None:
    if not isinstance(value, dict):
        return None
    return {n: v for n, v in value.items() if v is None or isinstance(v, (str, bool, int, float))}


def _texts(value: object) -> dict[str, str]:
    return {n: v for n, v in (_mapping(value) or {}).items() if isinstance(v, str)}


def _intervals(value: object) -> dict[str, tuple[Number, ...]]:
    found = {name: _numbers(item) for name, item in (_mapping(value) or {}).items()}
    return {name: item for name, item in found.items() if item is not None}


def _curve(value: object) -> tuple[CurvePoint, ...]:
    points = [_numbers(point) for point in value] if isinstance(value, list) else []
    return tuple(CurvePoint(*point) for point in points if point and len(point) == 4)


def _target(value: object) -> Target | None:
    """A target as an object; see `ResultRow.from_json` for others."""
    if not isinstance(value, dict):
        return None
    op, said = text(value.get("op")) or "", text(value.get("text")) or ""
    return Target(op, number(value.get("bound")), said)


def _start(value: object) -> Start | None:
    known = _texts(value)
    names = [f.name for f in dataclasses.fields(Start)]
    return Start(**{n: known[n] for n in names if n in known}) if known else None


def _recipe(value: object) -> Recipe | None:
    if not isinstance(value, dict):
        return None
    return Recipe(_whole(value.get("version")), _texts(value.get("worlds")))


def _hardware(value: object) -> Hardware | None:
    if not isinstance(value, dict):
        return None
    cpu, gpu = text(value.get("cpu")), text(value.get("gpu"))
    return Hardware(cpu, gpu, _whole(value.get("cpu_count")), _whole(value.get("threads")))


READERS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("id", "kind", "table", "unit", "paper", "differs", "of_run", "contest"), text),
    **dict.fromkeys(("failed", "key", "partition_sha256", "model_sha256"), text),
    **dict.fromkeys(("commit", "measured"), text),
    **dict.fromkeys(("seed", "n", "quarantined"), _whole),
    **dict.fromkeys(("mean_skew", "cpu_seconds", "seconds"), number),
    **dict.fromkeys(("people_mm", "clients_mm", "client_skew", "client_samples"), _numbers),
    **dict.fromkeys(("noise", "chosen", "packages"), _scalars),
    "defended": _flag,
    "scores": _scores,
    "target": _target,
    "intervals": _intervals,
    "curve": _curve,
    "started_from": _start,
    "recipe": _recipe,
    "hardware": _hardware,
    "config": _mapping,
}
