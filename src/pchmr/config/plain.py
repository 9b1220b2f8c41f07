"""Configs to JSON and back; unknown keys, wrong types and contradictions are refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pchmr.config.errors import SettingError, require

Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """The whole resolved config as JSON; `from_json` reads it back unchanged."""
    return json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"


def from_json(kind: type[Config], text: str) -> Config:
    """A config from JSON; unknown keys, wrong types and contradictions are refused by name."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"config is not JSON: {error}") from None
    return from_dict(kind, raw)


def from_dict(kind: type[Config], raw: Any) -> Config:
    """A config from plain values; see `from_json`."""
    require(isinstance(raw, dict), f"config of {kind.__name__} must be an object with settings")
    hints = get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - names)
    require(not unknown, f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    return kind(**{name: _convert(name, hints[name], value) for name, value in raw.items()})


def _convert(name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value)  # type: ignore[arg-type]
    if type(value) is int and float in _accepted(hint) and int not in _accepted(hint):
        return float(value)
    for accepted in _accepted(hint):
        if accepted is Path and isinstance(value, str):
            return Path(value)
        if accepted is tuple and isinstance(value, list):
            kind = next(iter(getattr(hint, "__args__", ())), Path)
            return tuple(kind(item) for item in value)
        if isinstance(accepted, type):
            if type(value) is accepted:
                return value
        elif value == accepted:
            return value
    raise SettingError(f"setting {name} cannot be {value!r}; expected {hint}")


def _accepted(hint: Any) -> tuple[Any, ...]:
    """Types, and for a Literal the values, that a hint accepts."""
    if getattr(hint, "__origin__", None) is tuple:
        return (tuple,)
    arguments = getattr(hint, "__args__", None)
    if arguments is None:
        return (hint,)
    return tuple(item for argument in arguments for item in _accepted(argument))
