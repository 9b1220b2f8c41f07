"""Smaller forms of an exported graph: half precision, and 8 bit integers calibrated on people.

What makes coordinates stays in float32: an 8-bit metre is 8 mm wide.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from pchmr.device.graph import INPUT, quiet

PRODUCTS = ("Conv", "MatMul", "Gemm")
TO_FLOAT32 = ("MatMul", "Gemm")
"""Products whose sums go on as float32: rounding them once more costs accuracy and a pass."""
IN_FLOAT32 = ("keypoint_head/", "keypoint_head.token", "smpl_head")


class Crops(CalibrationDataReader):
    """Hands the quantizer one crop after the other."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        """The next crop by input name; None at the end."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def fold(source: Path, target: Path) -> None:
    """Writes the graph with constants folded and shapes inferred, as the quantizer needs it."""
    with quiet():
        quant_pre_process(source, target, skip_symbolic_shape=True)


def write_fp16(folded: Path, target: Path) -> None:
    """Writes the graph in half precision; inputs and outputs stay float32."""
    with quiet():
        model = convert_float_to_float16(onnx.load(folded), keep_io_types=True)
    _save(model, target)


def write_int8(folded: Path, target: Path, images: Iterable[np.ndarray]) -> None:
    """Writes the graph with 8-bit weights (per channel) and activations (static, QDQ).

    Weights keep 7 bits, so that CPUs without VNNI do not overflow and all give the same result.

    Args:
        folded: Graph from `fold`.
        target: File to write.
        images: Training crops (3, height, width), RGB in [0, 1], that set the ranges.
    """
    with quiet():
        quantize_static(
            folded,
            target,
            Crops(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*PRODUCTS, "Relu"],
            nodes_to_quantize=nodes_in_8_bits(onnx.load(folded)),
            extra_options={"OpTypesToExcludeOutputQuantization": list(TO_FLOAT32)},
        )
    _save(onnx.load(target), target)


def nodes_in_8_bits(model: onnx.ModelProto) -> list[str]:
    """Names of the products of features with weights, and of each ReLU right behind one.

    With its ReLU, a product has one range from zero up; without, its sums would be rounded twice,
    first over a range that the ReLU throws half away. Left out: attention (two activations, or a
    constant before them), whatever returns coordinates (a last axis of 3), and `IN_FLOAT32`.
    """
    graph = model.graph
    weights = {initializer.name for initializer in graph.initializer}
    lasts = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.shape.dim
    }
    products = [
        node
        for node in graph.node
        if node.op_type in PRODUCTS
        and node.input[1] in weights
        and (node.op_type == "Conv" or lasts.get(node.output[0]) != 3)
        and not node.name.startswith(IN_FLOAT32)
    ]
    sums = {product.output[0] for product in products}
    relus = [node for node in graph.node if node.op_type == "Relu" and node.input[0] in sums]
    return [node.name for node in (*products, *relus)]


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Writes a graph that asks for the operator sets it uses, so that any runtime takes it."""
    used = {node.domain for node in model.graph.node} | {""}
    sets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sets)
    onnx.save(model, path)
