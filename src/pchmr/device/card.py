"""What `card.json` beside exported networks holds; no logic."""

from collections.abc import Mapping
from typing import TypedDict

from pchmr.models.started import StartedFrom


class Milliseconds(TypedDict):
    """Process CPU time of one call."""

    min: float
    median: float


class Measured(TypedDict):
    """What a network costs, and its error in mm over the held-out people."""

    mpjpe_mm: float | None
    cpu_ms: Milliseconds


class Form(Measured):
    """A written form, held against PyTorch: largest difference of a vertex in metres, error in mm.

    `cost_mm` is what it adds to PyTorch's error; `joints_moved_p95_mm` is the distance from
    PyTorch's joints, about the hips, that one in twenty exceeds.
    """

    file: str
    sha256: str
    num_bytes: int
    max_vertex_difference_m: float
    joints_moved_p95_mm: float
    cost_mm: float | None


class People(TypedDict):
    """Whom a network was calibrated or scored on."""

    drawn_from: str
    num_samples: int
    content_hash: str


class Card(TypedDict):
    """Everything that a reader of the files must know.

    `pytorch_bf16` is None where the processor has no unit for it.
    """

    default: str | None
    model: Mapping[str, object]
    started_from: StartedFrom
    body_sha256: str
    num_vertices: list[int]
    opset: int
    outputs: list[str]
    units: dict[str, str]
    calibration: People
    held_out: People
    threads: int
    pytorch: Measured
    pytorch_bf16: Measured | None
    variants: dict[str, Form]
    environment: Mapping[str, object]
