"""Contact sheets: the same people in every row, what each run made of them beside the truth."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pchmr.examples import Examples, Picture, draw, read_examples
from pchmr.report.files import is_file
from pchmr.report.records import RunRecord
from pchmr.runs import EXAMPLES, EXAMPLES_BEFORE

# What drawing raises on arrays that no run has written.
UNDRAWABLE = (ValueError, RuntimeError, IndexError, ArithmeticError, MemoryError, TypeError)


@dataclass(frozen=True)
class Cell:
    """What one run made of a person: its error, the mesh over the picture, and from the side."""

    error_mm: float
    pictures: list[str]


@dataclass(frozen=True)
class SheetRow:
    """A held-out person: rank and row, input and truth as data addresses, a cell for each run."""

    rank: str
    index: int
    truth: list[str]
    cells: list[Cell]


@dataclass(frozen=True)
class Sheet:
    """People by runs.

    Attributes:
        columns: Labels of the runs, in the order of each row's cells.
        rows: People.
        private: Whether they stood before a camera.
    """

    columns: list[str]
    rows: list[SheetRow]
    private: bool


def sheets(records: Sequence[RunRecord], labels: Sequence[str]) -> list[Sheet]:
    """One sheet for all runs that show the same people, in their order.

    Runs that cannot be read or drawn are left out. What the start weights made of the people
    stands before the runs, where one of them kept it.
    """
    groups: dict[bytes, list[tuple[str, list[Picture], RunRecord]]] = {}
    for record, label in zip(records, labels, strict=True):
        for name, said in ((EXAMPLES_BEFORE, "Before"), (EXAMPLES, label)):
            examples = _read(record, name)
            if examples is None:
                continue
            group = groups.setdefault(examples.index.tobytes() + examples.image.tobytes(), [])
            if name == EXAMPLES_BEFORE and said in [known for known, _, _ in group]:
                continue
            # The truth of a person is drawn once, beside what the first run made of it.
            if drawn := _drawn(examples, with_truth=not group):
                group.append((said, drawn, record))
    return [_sheet(group) for group in groups.values() if group]


def _read(record: RunRecord, name: str) -> Examples | None:
    return read_examples(record.path / name if is_file(record.path, name) else None)


def _drawn(examples: Examples, *, with_truth: bool) -> list[Picture]:
    try:
        return list(draw(examples, with_truth=with_truth))
    except UNDRAWABLE:
        return []


def _sheet(group: Sequence[tuple[str, list[Picture], RunRecord]]) -> Sheet:
    pictures = [drawn for _, drawn, _ in group]
    rows = [
        SheetRow(
            rank=people[0].rank,
            index=people[0].index,
            truth=[_data_address(tile) for tile in people[0].truth],
            cells=[
                Cell(p.error_mm, [_data_address(tile) for tile in p.prediction]) for p in people
            ],
        )
        for people in zip(*pictures, strict=True)
    ]
    private = any(record.is_private for _, _, record in group)
    return Sheet([label for label, _, _ in group], rows, private)


def _data_address(tile: np.ndarray) -> str:
    """A PNG of at most 256 colors as a data address: a fifth of the bytes, no visible loss."""
    buffer = io.BytesIO()
    image = Image.fromarray(tile).quantize(256, method=Image.Quantize.FASTOCTREE)
    image.save(buffer, format="PNG", optimize=True)
    return address("image/png", buffer.getvalue())


def address(media: str, content: bytes) -> str:
    """Content as a data address, so that a page asks for no file."""
    return f"data:{media};base64," + base64.b64encode(content).decode()
