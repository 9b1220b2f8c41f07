"""The fetched networks against recorded outputs of another implementation.

`blazepose_v1.npz` holds every so-many-th output of LiteRT (ai-edge-litert 2.3.0, one thread) for
squares of 16 x 16 pixels, colored by `numpy.random.default_rng(7)`, values in [0, 1].
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pchmr.perception.blazepose.networks import open_network

pytestmark = pytest.mark.priors
RECORDED = Path(__file__).with_name("blazepose_v1.npz")
SIZES = {"pose_detection.tflite": 224, "pose_landmark_full.tflite": 256}
TOLERANCE = 1e-3  # of the largest output


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("file", SIZES)
def test_outputs_equal_the_recorded_ones(blazepose: Path, file: str, fast: bool) -> None:
    if fast and not importlib.util.find_spec("onnxruntime"):
        pytest.skip("the faster runner needs onnxruntime: pip install pchmr[export]")
    size = SIZES[file]
    cells = np.random.default_rng(7).random((1, size // 16, size // 16, 3)).astype(np.float32)
    found = open_network(file, blazepose, fast=fast)(cells.repeat(16, 1).repeat(16, 2))
    with np.load(RECORDED) as recorded:
        numbers = [key for key in recorded if key.startswith(file) and key.count("/") == 1]
        assert len(numbers) == len(found)
        for number, output in enumerate(found):
            key = f"{file}/{number}"
            step, largest = int(recorded[f"{key}/step"]), float(recorded[f"{key}/largest"])
            error = np.abs(output.reshape(-1)[::step] - recorded[key]).max()
            assert error <= TOLERANCE * largest
