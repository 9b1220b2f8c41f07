"""Runs a `Network` in torch: channels first inside, rows first where a shape is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.perception.blazepose.shapes import filters, padding, same_padding
from pchmr.perception.blazepose.tflite import Network, Operation

Step = Callable[[Sequence[Tensor]], Tensor]
TO_ROWS_FIRST = (0, 2, 3, 1)
TO_CHANNELS_FIRST = (0, 3, 1, 2)


class TorchRunner:
    """A network as a function from a picture (1, height, width, 3) to its outputs."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps = [_Line(_STEPS[o.kind](network, o), o) for o in network.operations]
        self.last_use = {t: i for i, o in enumerate(network.operations) for t in o.inputs}

    @torch.inference_mode()
    def __call__(self, image: Float[ndarray, "1 height width 3"]) -> list[ndarray]:
        """The outputs in the order of the file, as it shapes them."""
        network = self.network
        values = {network.input: torch.from_numpy(image).permute(TO_CHANNELS_FIRST)}
        for number, line in enumerate(self.steps):
            values[line.operation.output] = line.run(values)
            self._forget(values, number, line.operation)
        return [_rows_first(values[output]).numpy() for output in network.outputs]

    def _forget(self, values: dict[int, Tensor], number: int, operation: Operation) -> None:
        """Frees what no later step reads."""
        for tensor in set(operation.inputs) - set(self.network.outputs):
            if self.last_use[tensor] == number:
                values.pop(tensor, None)


@dataclass(frozen=True)
class _Line:
    step: Step
    operation: Operation

    def run(self, values: dict[int, Tensor]) -> Tensor:
        found = self.step([values[t] for t in self.operation.inputs if t in values])
        return found.clamp_(0, 6) if self.operation.relu6 else found


def _rows_first(value: Tensor) -> Tensor:
    return value.permute(TO_ROWS_FIRST) if value.ndim == 4 else value


def _convolution(network: Network, operation: Operation) -> Step:
    arrays = filters(network, operation)
    weight, bias, groups = torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]), arrays[2]
    weight = weight.contiguous()
    top, bottom, left, right = same_padding(network, operation, weight.shape[2:])
    stride, border = operation.stride, (left, right, top, bottom)
    if (top, left) == (bottom, right):
        return lambda x: F.conv2d(x[0], weight, bias, stride, (top, left), groups=groups)
    return lambda x: F.conv2d(F.pad(x[0], border), weight, bias, stride, groups=groups)


def _max_pool(network: Network, operation: Operation) -> Step:
    return lambda x: F.max_pool2d(x[0], operation.window, operation.stride)


def _pad(network: Network, operation: Operation) -> Step:
    (top, bottom), (left, right) = padding(network, operation)
    return lambda x: F.pad(x[0], (left, right, top, bottom))


def _resize(network: Network, operation: Operation) -> Step:
    size = network.shapes[operation.output][1:3]
    return lambda x: F.interpolate(x[0], size, mode="bilinear", align_corners=False)


def _reshape(network: Network, operation: Operation) -> Step:
    shape = network.shapes[operation.output]
    return lambda x: _rows_first(x[0]).reshape(shape)


def _depth_to_space(network: Network, operation: Operation) -> Step:
    block = operation.block

    def spread(x: Sequence[Tensor]) -> Tensor:
        _, depth, rows, columns = x[0].shape
        cells = x[0].view(1, block, block, depth // block**2, rows, columns)
        return cells.permute(0, 3, 4, 1, 5, 2).reshape(1, -1, rows * block, columns * block)

    return spread


def _concatenation(network: Network, operation: Operation) -> Step:
    return lambda x: torch.cat(list(x), dim=operation.axis)


_STEPS: dict[str, Callable[[Network, Operation], Step]] = {
    "add": lambda network, operation: lambda x: x[0] + x[1],
    "concatenation": _concatenation,
    "conv": _convolution,
    "depthwise_conv": _convolution,
    "depth_to_space": _depth_to_space,
    "logistic": lambda network, operation: lambda x: torch.sigmoid(x[0]),
    "max_pool": _max_pool,
    "pad": _pad,
    "reshape": _reshape,
    "resize_bilinear": _resize,
}
