"""JSON and JSONL within limits: size, depth, length of integers, text that can be written again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pchmr.door.files import FileError, read_text
from pchmr.door.limits import JSON_DEPTH, JSON_DIGITS, TEXT_BYTES

Json = dict[str, Any]
"""An object as JSON holds it; whoever reads it knows what is in it, and checks that."""


def parse_json(text: str, most_bytes: int = TEXT_BYTES) -> Any:
    """The value of a JSON text of at most so many letters.

    Raises:
        ValueError: It is none, deeper than `JSON_DEPTH`, or holds integers or text that no
            other program could take.
    """
    if len(text) > most_bytes:
        raise ValueError(f"JSON of more than {most_bytes} letters")
    try:
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"JSON nested deeper than {JSON_DEPTH}") from None
    _check_depth(value)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair raises here
    return value


def _integer(digits: str) -> int:
    if len(digits) > JSON_DIGITS:
        raise ValueError(f"integer of {len(digits)} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > JSON_DEPTH:
            raise ValueError(f"JSON nested deeper than {JSON_DEPTH}")
        level, depth = [inner for outer in level for inner in _inner(outer)], depth + 1


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (item for item in value.values() if isinstance(item, (dict, list)))
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, (dict, list)))


def read_json(path: Path, most_bytes: int = TEXT_BYTES) -> Any:
    """The value of a JSON file; `FileError` where it is none, see `parse_json`."""
    text = read_text(path, most_bytes)
    try:
        return parse_json(text, most_bytes)
    except ValueError as error:
        raise FileError(path, f"is no JSON we read ({error})") from None


def read_json_lines(path: Path) -> list[Json]:
    """The objects of a JSONL file; `FileError` names the first line that is none."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise FileError(path, f"line {number} is damaged")
        rows.append(row)
    return rows
