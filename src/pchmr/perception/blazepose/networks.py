"""Opens the two networks: checked files, and the faster runner that is installed."""

from importlib.util import find_spec
from pathlib import Path

from pchmr.perception.blazepose.detector import Runner
from pchmr.perception.blazepose.flatbuffer import NetworkFileError
from pchmr.perception.blazepose.shapes import check_shapes
from pchmr.perception.blazepose.tflite import read_network
from pchmr.perception.blazepose.torch_runner import TorchRunner
from pchmr.perception.fetched import read_pinned

NAME = "blazepose"
FAST_PACKAGES = ("onnx", "onnxruntime")


def open_network(file: str, folder: Path | None = None, *, fast: bool | None = None) -> Runner:
    """A network of the prior as a function from a picture to its outputs.

    Args:
        file: Name of the fetched file.
        folder: Where it lies; without it, where `pchmr priors get` keeps it.
        fast: Whether onnxruntime runs it; without a word, where it is installed.

    Raises:
        PriorFileError: The file is missing or another one.
    """
    network = read_network(read_pinned(NAME, file, folder))
    check_shapes(network)
    if fast is None:
        fast = all(find_spec(package) is not None for package in FAST_PACKAGES)
    if not fast:
        return TorchRunner(network)
    try:
        from pchmr.perception.blazepose.onnx_runner import OnnxRunner
    except ImportError as error:
        raise NetworkFileError(
            f"running with onnxruntime needs {error.name}: pip install pchmr[export]"
        ) from None
    return OnnxRunner(network)
