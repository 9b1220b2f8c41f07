"""Writes a `Network` as an ONNX graph and runs it with onnxruntime, the faster of the two runners.

The graph is channels first inside, like the torch runner, and lives in memory only.
"""

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float
from numpy import ndarray
from onnx import helper, numpy_helper

from pchmr.perception.blazepose.shapes import filters, padding, same_padding
from pchmr.perception.blazepose.tflite import Network, Operation

OPSET = 20
IR_VERSION = 10
ONLY_ERRORS = 3
PROVIDERS = ["CPUExecutionProvider"]
KINDS = {
    "add": "Add",
    "concatenation": "Concat",
    "conv": "Conv",
    "depthwise_conv": "Conv",
    "depth_to_space": "DepthToSpace",
    "logistic": "Sigmoid",
    "max_pool": "MaxPool",
    "pad": "Pad",
    "reshape": "Reshape",
    "resize_bilinear": "Resize",
}


class OnnxRunner:
    """A network as a function from a picture (1, height, width, 3) to its outputs."""

    def __init__(self, network: Network) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ONLY_ERRORS
        graph = onnx_model(network).SerializeToString()
        self.session = onnxruntime.InferenceSession(graph, options, providers=PROVIDERS)
        self.input = self.session.get_inputs()[0].name

    def __call__(self, image: Float[ndarray, "1 height width 3"]) -> list[ndarray]:
        """The outputs in the order of the file, as it shapes them."""
        return [np.asarray(found) for found in self.session.run(None, {self.input: image})]


def onnx_model(network: Network) -> onnx.ModelProto:
    """The network as ONNX."""
    graph = _Graph(network)
    graph.node("Transpose", ["picture"], _name(network.input), perm=[0, 3, 1, 2])
    for operation in network.operations:
        graph.add(operation)
    for number, tensor in enumerate(network.outputs):
        last = _name(tensor)
        if len(network.shapes[tensor]) == 4:
            last = graph.rows_first(last)
        graph.node("Identity", [last], f"output_{number}")
    return graph.model()


def _name(tensor: int) -> str:
    return f"t{tensor}"


class _Graph:
    """Nodes and constants as they are collected."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def rows_first(self, value: str) -> str:
        return self.node("Transpose", [value], f"{value}_{len(self.nodes)}", perm=[0, 2, 3, 1])

    def add(self, operation: Operation) -> None:
        """An operation, and the clamp that follows it."""
        inputs = [_name(t) for t in operation.inputs if t not in self.network.constants]
        more, attributes = self._details(operation)
        if operation.kind == "reshape" and len(self.network.shapes[operation.inputs[0]]) == 4:
            inputs = [self.rows_first(inputs[0])]
        output = _name(operation.output)
        before = f"{output}_free" if operation.relu6 else output
        self.node(KINDS[operation.kind], inputs + more, before, **attributes)
        if operation.relu6:
            limits = [self.constant(np.array(limit, np.float32)) for limit in (0, 6)]
            self.node("Clip", [before, *limits], output)

    def _details(self, operation: Operation) -> tuple[list[str], dict]:
        """Further inputs and the attributes of an operation's node."""
        network, kind = self.network, operation.kind
        shape = network.shapes[operation.output]
        if kind in ("conv", "depthwise_conv"):
            return self._convolution(operation)
        if kind == "concatenation":
            return [], {"axis": operation.axis}
        if kind == "depth_to_space":
            return [], {"blocksize": operation.block, "mode": "DCR"}
        if kind == "max_pool":
            return [], {"kernel_shape": operation.window, "strides": operation.stride}
        if kind == "pad":
            (top, bottom), (left, right) = padding(network, operation)
            return [self.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))], {}
        if kind == "reshape":
            return [self.constant(np.array(shape))], {}
        if kind == "resize_bilinear":
            size = self.constant(np.array([shape[0], shape[3], shape[1], shape[2]]))
            return ["", "", size], {
                "mode": "linear",
                "coordinate_transformation_mode": "half_pixel",
            }
        return [], {}

    def _convolution(self, operation: Operation) -> tuple[list[str], dict]:
        weight, bias, groups = filters(self.network, operation)
        top, bottom, left, right = same_padding(self.network, operation, weight.shape[2:])
        attributes = {
            "pads": [top, left, bottom, right],
            "strides": operation.stride,
            "group": groups,
            "kernel_shape": weight.shape[2:],
        }
        return [self.constant(weight), self.constant(bias)], attributes

    def model(self) -> onnx.ModelProto:
        shapes, network = self.network.shapes, self.network
        value = helper.make_tensor_value_info
        single = onnx.TensorProto.FLOAT
        inputs = [value("picture", single, shapes[network.input])]
        outputs = [
            value(f"output_{n}", single, shapes[tensor]) for n, tensor in enumerate(network.outputs)
        ]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
