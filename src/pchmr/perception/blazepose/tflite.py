"""A TFLite file as a list of operations: exactly the kinds that the pose networks are made of.

Weights that are stored as halves or sparsely are unfolded here, so that a runner sees dense float32
constants. Another kind of operation, type or sparsity is refused by name. It runs nothing.
Source: TensorFlow's `schema.fbs`, version 3.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy import ndarray

from pchmr.perception.blazepose.flatbuffer import NetworkFileError, Table

MAGIC = b"TFL3"
MOST_BYTES = 1 << 26
MOST_ELEMENTS = 1 << 24
MOST_DIMENSIONS = 4
Kind = Literal[
    "add",
    "concatenation",
    "conv",
    "depthwise_conv",
    "depth_to_space",
    "dequantize",
    "logistic",
    "max_pool",
    "reshape",
    "resize_bilinear",
    "pad",
    "densify",
]
KINDS: dict[int, Kind] = {
    0: "add",
    2: "concatenation",
    3: "conv",
    4: "depthwise_conv",
    5: "depth_to_space",
    6: "dequantize",
    14: "logistic",
    17: "max_pool",
    22: "reshape",
    23: "resize_bilinear",
    34: "pad",
    124: "densify",
}
"""Codes of the operations."""
UNFOLDED = ("dequantize", "densify")
TYPES = {0: "f4", 1: "f2", 2: "i4"}
INDEX_TYPES = {1: "i4", 2: "u2", 3: "u1"}
RELU6 = 3
DENSE, SPARSE = 0, 1


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a network; pictures are (1, height, width, channels).

    Attributes:
        kind: What it does.
        inputs: Numbers of the tensors it reads, as the file orders them.
        output: Number of the tensor it writes.
        same: Whether a window is padded so that the output is the input over the stride.
        stride: Rows and columns between windows.
        relu6: Whether the output is clamped to [0, 6].
        axis: Along which tensors are joined.
        block: Side of the squares of `depth_to_space`.
        window: Rows and columns of `max_pool`.
    """

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    same: bool = False
    stride: tuple[int, int] = (1, 1)
    relu6: bool = False
    axis: int = 0
    block: int = 1
    window: tuple[int, int] = (1, 1)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of one picture.

    Attributes:
        operations: In the order in which they run.
        constants: Weights and shapes by number of the tensor.
        shapes: Of every tensor, by its number.
        input: Number of the tensor that is given.
        outputs: Numbers of the tensors that are asked for.
    """

    operations: tuple[Operation, ...]
    constants: dict[int, ndarray]
    shapes: tuple[tuple[int, ...], ...]
    input: int
    outputs: tuple[int, ...]


def read_network(data: bytes) -> Network:
    """The network in a file's bytes.

    Raises:
        NetworkFileError: No TFLite file, a damaged one, or one with parts that are unknown here.
    """
    if len(data) > MOST_BYTES or data[4:8] != MAGIC:
        raise NetworkFileError("no TFLite file of at most 64 MiB")
    try:
        return _Reader(data).network()
    except (ValueError, OverflowError, IndexError) as error:
        if isinstance(error, NetworkFileError):
            raise
        raise NetworkFileError(f"damaged TFLite file ({error})") from None


@dataclass
class _Reader:
    data: bytes
    constants: dict[int, ndarray] = field(default_factory=dict)

    def network(self) -> Network:
        model = Table.root(self.data)
        graphs = model.tables(2)
        _check(len(graphs) == 1, f"{len(graphs)} networks in one file, expected one")
        self.codes = [max(c.number(0, "b"), c.number(3, "i")) for c in model.tables(1)]
        self.buffers, self.tensors = model.tables(4), graphs[0].tables(0)
        self.shapes = tuple(_shape(tensor) for tensor in self.tensors)
        for index in range(len(self.tensors)):
            self._keep_constant(index)
        operations = [self._operation(table) for table in graphs[0].tables(3)]
        inputs, outputs = (tuple(graphs[0].numbers(n, "i4").tolist()) for n in (1, 2))
        _check(len(inputs) == 1 and len(outputs) >= 1, "a network takes one picture")
        self._known((*inputs, *outputs))
        return Network(
            operations=tuple(o for o in operations if o is not None),
            constants=self.constants,
            shapes=self.shapes,
            input=int(inputs[0]),
            outputs=outputs,
        )

    def _keep_constant(self, index: int) -> None:
        """Reads the weights of a tensor that has some."""
        tensor = self.tensors[index]
        buffer = tensor.number(2, "I")
        _check(buffer < len(self.buffers), "a tensor without a buffer")
        raw = self.buffers[buffer].numbers(0, "u1")
        if not len(raw):
            return
        kind = tensor.number(1, "b")
        _check(kind in TYPES, f"numbers of type {kind} are unknown here")
        values, shape = raw.view(np.dtype(TYPES[kind])), self.shapes[index]
        sparsity = tensor.table(6)
        if sparsity is not None:
            values = _dense(values, shape, sparsity)
        _check(len(values) == math.prod(shape), "weights of another number than their shape")
        _check(np.isfinite(values).all(), "weights that are not finite")
        self.constants[index] = values.reshape(shape)

    def _operation(self, table: Table) -> Operation | None:
        """The operation; None where it unfolded a constant."""
        code = table.number(0, "I")
        _check(code < len(self.codes) and self.codes[code] in KINDS, "an unknown operation")
        kind = KINDS[self.codes[code]]
        inputs = [int(number) for number in table.numbers(1, "i4")]
        outputs = [int(number) for number in table.numbers(2, "i4")]
        _check(len(inputs) >= 1 and len(outputs) == 1, f"{kind} of another arity")
        self._known((*inputs, *outputs))
        if kind in UNFOLDED:
            _check(inputs[0] in self.constants, f"{kind} of what is no constant")
            found = self.constants[inputs[0]].astype("f2" if kind == "densify" else "f4")
            self.constants[outputs[0]] = found
            return None
        options = table.table(4) or Table(b"\x04\0\4\0\4\0\0\0", 4)
        return Operation(
            kind=kind, inputs=tuple(inputs), output=outputs[0], **_options(kind, options)
        )

    def _known(self, tensors: tuple[int, ...]) -> None:
        _check(all(0 <= t < len(self.tensors) for t in tensors), "a tensor that is not there")


def _options(kind: Kind, table: Table) -> dict:
    """What an operation's own table says, in the words of `Operation`."""
    if kind in ("conv", "depthwise_conv", "max_pool"):
        return _window_options(kind, table)
    if kind == "resize_bilinear":
        halves = not table.number(2, "?") and table.number(3, "?")
        _check(bool(halves), "resizing that does not count from the middles of pixels")
    if kind == "add":
        return {"relu6": _clamps(table.number(0, "b"))}
    if kind == "concatenation":
        return {"axis": table.number(0, "i"), "relu6": _clamps(table.number(1, "b"))}
    if kind == "depth_to_space":
        return {"block": table.number(0, "i")}
    return {}


def _window_options(kind: Kind, table: Table) -> dict:
    """Padding, strides and size of a window that moves over a picture."""
    stride = (table.number(2, "i"), table.number(1, "i"))
    shift = {"conv": 3, "depthwise_conv": 4, "max_pool": 5}[kind]
    if kind != "max_pool":
        dilated = max(table.number(shift + n, "i", 1) for n in (1, 2))
        _check(dilated == 1, "dilated windows are unknown here")
    if kind == "depthwise_conv":
        _check(table.number(3, "i") == 1, "several filters a channel are unknown here")
    found = {
        "same": table.number(0, "b") == 0,
        "stride": stride,
        "relu6": _clamps(table.number(shift, "b")),
    }
    if kind == "max_pool":
        found["window"] = (table.number(4, "i"), table.number(3, "i"))
    sizes = (*stride, *found.get("window", ()))
    _check(all(1 <= size <= 64 for size in sizes), "windows of no size")
    return found


def _clamps(activation: int) -> bool:
    _check(activation in (0, RELU6), f"activation {activation} is unknown here")
    return activation == RELU6


def _shape(tensor: Table) -> tuple[int, ...]:
    shape = tuple(tensor.numbers(0, "i4")[: MOST_DIMENSIONS + 1].tolist())
    _check(len(shape) <= MOST_DIMENSIONS, f"tensors of more than {MOST_DIMENSIONS} axes")
    _check(all(n >= 1 for n in shape), "a tensor of no size")
    _check(math.prod(shape) <= MOST_ELEMENTS, f"a tensor of shape {shape}")
    return shape


def _dense(values: ndarray, shape: tuple[int, ...], sparsity: Table) -> ndarray:
    """Rows whose zeros are left out, written out: the last axis is compressed, no other is."""
    axes = sparsity.tables(2)
    formats = [axis.number(0, "b") for axis in axes]
    order = sparsity.numbers(0, "i4").tolist()
    plain = order == list(range(len(shape))) and not len(sparsity.numbers(1, "i4"))
    _check(plain and formats == [DENSE] * (len(shape) - 1) + [SPARSE], "another kind of sparsity")
    ends, columns = (_indices(axes[-1], n) for n in (2, 4))
    rows = math.prod(shape[:-1])
    sound = len(ends) == rows + 1 and ends[0] == 0 and ends[-1] == len(columns) == len(values)
    _check(sound and bool((np.diff(ends) >= 0).all()), "sparse rows that do not fit their weights")
    _check(not len(columns) or columns.max() < shape[-1], "a sparse column outside its row")
    found = np.zeros((rows, shape[-1]), values.dtype)
    found[np.repeat(np.arange(rows), np.diff(ends)), columns] = values
    return found.reshape(-1)


def _indices(axis: Table, number: int) -> ndarray:
    kind, vector = axis.number(number, "B"), axis.table(number + 1)
    _check(kind in INDEX_TYPES and vector is not None, "sparse rows without their indices")
    assert vector is not None
    found = vector.numbers(0, INDEX_TYPES[kind]).astype(np.int64)
    _check(not len(found) or found.min() >= 0, "negative sparse indices")
    return found


def _check(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise NetworkFileError(message)
