"""What a setting decides, noted at its field: where a run goes on, what is compared with what.

Every list of settings that resume, reports and benchmarks need is made from these marks.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, get_type_hints

RESUME = "resume"
"""May differ when a run goes on: it changes no weight, or its content is compared instead."""
COMPARE = "compare"
"""Tells no two runs of a report apart: neither what is learned nor what is scored hangs on it."""
KEY = "key"
"""Is no part of the key of a benchmark's cell."""
SCORED = "scored"
"""Decides what is scored: runs that share all of these stand in one table."""
LONGER = "longer while constant: "
"""May grow when a run goes on, while the schedule that follows is constant."""


def marked(default: Any, *marks: str) -> Any:
    """A field with a default and marks."""
    return dataclasses.field(default=default, metadata=dict.fromkeys(marks, True))


def marks_of(kinds: Iterable[type]) -> dict[str, frozenset[str]]:
    """The marks of every setting of configs and of the groups in them, by name."""
    found: dict[str, frozenset[str]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if dataclasses.is_dataclass(hints[field.name]):
                found |= marks_of([hints[field.name]])
            else:
                found[field.name] = found.get(field.name, frozenset()) | set(field.metadata)
    return found
