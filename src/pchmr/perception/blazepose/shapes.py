"""Shapes of a `Network`, step by step: checked once, so that no runner meets a surprise.

Also what both runners ask about windows: filters, and how pictures are padded.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy import ndarray

from pchmr.perception.blazepose.flatbuffer import NetworkFileError
from pchmr.perception.blazepose.tflite import Network, Operation

Shape = tuple[int, ...]
MOST_PADDED = 1024
MOST_INPUTS = 16


def check_shapes(network: Network) -> None:
    """Refuses a network whose tensors do not have the shapes that its operations give them.

    Raises:
        NetworkFileError: That, or a tensor that is read before it is written.
    """
    known = {network.input, *network.constants}
    for operation in network.operations:
        sound = len(operation.inputs) <= MOST_INPUTS and known.issuperset(operation.inputs)
        _check(sound and operation.output not in known, "tensors that are read before written")
        try:
            expected = _SHAPES[operation.kind](network, operation)
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise NetworkFileError(f"damaged {operation.kind}: {error}") from None
        _check(expected == network.shapes[operation.output], f"{operation.kind} of another shape")
        known.add(operation.output)
    _check(known.issuperset(network.outputs), "outputs that nothing writes")


def filters(network: Network, operation: Operation) -> tuple[ndarray, ndarray, int]:
    """Filters (out, in a group, rows, columns), biases (out), and the number of groups.

    Raises:
        NetworkFileError: They are no constants, or of other shapes.
    """
    found = [network.constants.get(tensor) for tensor in operation.inputs[1:3]]
    if len(found) < 2 or found[0] is None or found[1] is None or found[0].ndim != 4:
        raise NetworkFileError("a convolution without weights")
    deep = operation.kind == "depthwise_conv"
    weight = found[0].transpose((3, 0, 1, 2) if deep else (0, 3, 1, 2))
    channels = network.shapes[operation.inputs[0]][3]
    sound = (len(weight), 1) if deep else (len(found[1]), channels)
    _check(weight.shape[:2] == sound and found[1].shape == (len(weight),), "other weights")
    return weight.astype(np.float32), found[1].astype(np.float32), len(weight) if deep else 1


def same_padding(
    network: Network, operation: Operation, window: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right; TensorFlow's SAME, or none."""
    if not operation.same:
        return 0, 0, 0, 0
    size = network.shapes[operation.inputs[0]][1:3]
    found: list[int] = []
    for extent, side, step in zip(size, window, operation.stride, strict=True):
        total = max((math.ceil(extent / step) - 1) * step + side - extent, 0)
        found += [total // 2, total - total // 2]
    return found[0], found[1], found[2], found[3]


def padding(network: Network, operation: Operation) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows before and after, columns before and after.

    Raises:
        NetworkFileError: Other axes are padded, or the padding is no constant.
    """
    table = network.constants.get(operation.inputs[-1])
    if table is None or table.shape != (4, 2) or table[[0, 3]].any():
        raise NetworkFileError("padding of other axes than rows and columns")
    if table.dtype.kind != "i" or table.min() < 0 or table.max() > MOST_PADDED:
        raise NetworkFileError(f"padding beyond {MOST_PADDED} pixels")
    (top, bottom), (left, right) = table[1:3].tolist()
    return (top, bottom), (left, right)


def _picture(network: Network, operation: Operation) -> tuple[int, int, int]:
    """Rows, columns and channels of an operation's first input."""
    batch, rows, columns, channels = network.shapes[operation.inputs[0]]
    _check(batch == 1, "more than one picture")
    return rows, columns, channels


def _convolution(network: Network, operation: Operation) -> Shape:
    rows, columns, _ = _picture(network, operation)
    weight, _, groups = filters(network, operation)
    _check(groups in (1, network.shapes[operation.inputs[0]][3]), "filters of other channels")
    return _windowed(network, operation, (rows, columns), weight.shape[2:], len(weight))


def _max_pool(network: Network, operation: Operation) -> Shape:
    rows, columns, channels = _picture(network, operation)
    _check(not operation.same, "a maximum over padded windows is unknown here")
    return _windowed(network, operation, (rows, columns), operation.window, channels)


def _windowed(
    network: Network, operation: Operation, size: Shape, window: Shape, channels: int
) -> Shape:
    top, bottom, left, right = same_padding(network, operation, window)
    padded = (size[0] + top + bottom, size[1] + left + right)
    _check(padded[0] >= window[0] and padded[1] >= window[1], "a window larger than its picture")
    steps = zip(padded, window, operation.stride, strict=True)
    return (1, *((extent - side) // step + 1 for extent, side, step in steps), channels)


def _pad(network: Network, operation: Operation) -> Shape:
    rows, columns, channels = _picture(network, operation)
    (top, bottom), (left, right) = padding(network, operation)
    return 1, rows + top + bottom, columns + left + right, channels


def _resize(network: Network, operation: Operation) -> Shape:
    _, _, channels = _picture(network, operation)
    size = network.constants.get(operation.inputs[-1])
    _check(size is not None and size.shape == (2,), "resizing to no size")
    assert size is not None
    return 1, int(size[0]), int(size[1]), channels


def _reshape(network: Network, operation: Operation) -> Shape:
    found = network.shapes[operation.output]
    _check(len(found) != 4, "reshaping into a picture is unknown here")
    _check(math.prod(found) == math.prod(network.shapes[operation.inputs[0]]), "reshaping to more")
    return found


def _depth_to_space(network: Network, operation: Operation) -> Shape:
    rows, columns, channels = _picture(network, operation)
    block = operation.block
    _check(1 <= block <= 64 and channels % block**2 == 0, "channels that fill no squares")
    return 1, rows * block, columns * block, channels // block**2


def _concatenation(network: Network, operation: Operation) -> Shape:
    parts = [list(network.shapes[tensor]) for tensor in operation.inputs]
    axis, found = operation.axis, parts[0].copy()
    _check(0 <= axis < len(found) != 4, "joining pictures is unknown here")
    found[axis] = sum(part[axis] for part in parts)
    others = {tuple(part[:axis] + part[axis + 1 :]) for part in parts}
    _check(len(others) == 1, "joining tensors of other shapes")
    return tuple(found)


def _alike(network: Network, operation: Operation) -> Shape:
    found = {network.shapes[tensor] for tensor in operation.inputs}
    _check(len(found) == 1 and not set(operation.inputs) & set(network.constants), "other shapes")
    _check(len(operation.inputs) == (2 if operation.kind == "add" else 1), "another arity")
    return found.pop()


_SHAPES: dict[str, Callable[[Network, Operation], Shape]] = {
    "add": _alike,
    "concatenation": _concatenation,
    "conv": _convolution,
    "depthwise_conv": _convolution,
    "depth_to_space": _depth_to_space,
    "logistic": _alike,
    "max_pool": _max_pool,
    "pad": _pad,
    "reshape": _reshape,
    "resize_bilinear": _resize,
}


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise NetworkFileError(message)
