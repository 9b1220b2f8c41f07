"""The reader and both runners on small networks made here, and on files that are hostile."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pchmr.perception.blazepose.flatbuffer import NetworkFileError
from pchmr.perception.blazepose.shapes import check_shapes
from pchmr.perception.blazepose.tflite import read_network
from pchmr.perception.blazepose.torch_runner import TorchRunner

HERE = Path(__file__).parent


def _by_hand():
    spec = importlib.util.spec_from_file_location("by_hand", HERE / "flatbuffers_by_hand.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


by_hand = _by_hand()
Fields, Vector = by_hand.Fields, by_hand.Vector
SAME_BY_TWO = {0: ("b", 0), 1: ("i", 2), 2: ("i", 2)}
RNG = np.random.default_rng(0)
FILTERS = RNG.normal(size=(4, 3, 3, 3)).astype("f2")
BIAS = RNG.normal(size=4).astype("f4")
DEEP = RNG.normal(size=(1, 3, 3, 4)).astype("f4")
SPARSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0]], "f4")


def sparsity(ends: list[int], columns: list[int]) -> Fields:
    """Rows compressed along the last axis of (2, 1, 1, 4)."""
    axes = [Fields({0: ("b", 0), 1: ("i", n)}) for n in (2, 1, 1)]
    row = {
        0: ("b", 1),
        2: ("B", 3), 3: Fields({0: Vector(ends, "<u1")}),
        4: ("B", 3), 5: Fields({0: Vector(columns, "<u1")}),
    }  # fmt: skip
    return Fields({0: Vector([0, 1, 2, 3]), 2: Vector([*axes, Fields(row)])})


def network(ends=(0, 2, 2), columns=(1, 3), shape=(2, 1, 1, 4), stored=(2.0, 1.0), codes=None):
    """Halves -> convolution, SAME by two -> depthwise -> sparse convolution -> resize -> flat."""
    t = by_hand.tensor
    tensors = [
        t([1, 5, 6, 3], 0),
        t(FILTERS.shape, 1, 1), t(FILTERS.shape, 0), t([4], 2), t([1, 3, 3, 4], 0),
        t(DEEP.shape, 3), t([1, 3, 3, 4], 0),
        t(shape, 4, 0, sparsity=sparsity(list(ends), list(columns))), t(shape, 0), t([2], 5),
        t([1, 3, 3, 2], 0), t([1, 6, 6, 2], 0), t([2], 6, 2), t([1, 72], 0),
        t(shape, 0),
    ]  # fmt: skip
    conv = Fields({**SAME_BY_TWO, 3: ("b", 3)})
    deep = Fields({0: ("b", 0), 1: ("i", 1), 2: ("i", 1), 3: ("i", 1)})
    point = Fields({0: ("b", 1), 1: ("i", 1), 2: ("i", 1)})
    op = by_hand.operation
    operations = [
        op(0, [1], 2, Fields()), op(1, [0, 2, 3], 4, conv), op(2, [4, 5, 3], 6, deep),
        op(3, [7], 8, Fields()), op(0, [8], 14, Fields()), op(1, [6, 14, 9], 10, point),
        op(4, [10, 12], 11, Fields({2: ("?", False), 3: ("?", True)})),
        op(5, [11, 12], 13, Fields()),
    ]  # fmt: skip
    buffers = [
        b"", FILTERS.tobytes(), BIAS.tobytes(), DEEP.tobytes(), np.float32(stored).tobytes(),
        np.float32([0.5, -1]).tobytes(), np.int32([6, 6]).tobytes(),
    ]  # fmt: skip
    return by_hand.model(codes or [6, 3, 4, 124, 23, 22], tensors, operations, buffers, [13])


def expected(image: np.ndarray) -> np.ndarray:
    """The same in torch, written out: SAME by two pads 5 x 6 by (1, 1) and (0, 1)."""
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    x = F.pad(x, (0, 1, 1, 1))
    x = F.conv2d(x, torch.from_numpy(FILTERS.astype("f4")).permute(0, 3, 1, 2),
                 torch.from_numpy(BIAS), 2).clamp(0, 6)  # fmt: skip
    x = F.conv2d(x, torch.from_numpy(DEEP).permute(3, 0, 1, 2), torch.from_numpy(BIAS), 1, 1,
                 groups=4)  # fmt: skip
    x = F.conv2d(x, torch.from_numpy(SPARSE)[:, :, None, None], torch.tensor([0.5, -1]))
    x = F.interpolate(x, (6, 6), mode="bilinear")
    return x.permute(0, 2, 3, 1).reshape(1, 72).numpy()


def runners():
    yield TorchRunner
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        from pchmr.perception.blazepose.onnx_runner import OnnxRunner

        yield OnnxRunner


@pytest.mark.parametrize("runner", runners())
def test_a_small_network_is_computed_as_written_out(runner) -> None:
    image = RNG.random((1, 5, 6, 3), np.float32)
    small = read_network(by_hand.tflite(network()))
    check_shapes(small)
    found = runner(small)(image)
    assert len(found) == 1
    np.testing.assert_allclose(found[0], expected(image), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ends": (0, 2, 9)}, "sparse rows"),
        ({"columns": (1, 7)}, "outside its row"),
        ({"stored": (2.0, np.nan)}, "not finite"),
        ({"shape": (2, 1, 1, 1 << 30)}, "tensor of shape"),
        ({"shape": (2, -1, 1, 4)}, "no size"),
        ({"codes": [6, 3, 4, 124, 23, 99]}, "unknown operation"),
        ({"codes": [6, 3, 4]}, "unknown operation"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_line(change: dict, reason: str) -> None:
    with pytest.raises(NetworkFileError, match=reason) as told:
        read_network(by_hand.tflite(network(**change)))
    assert "\n" not in str(told.value)


def test_no_other_file_is_taken_for_a_network() -> None:
    for content in (b"", b"TFL3", bytes(64), b"\xff\xff\xff\x7fTFL3" + bytes(20)):
        with pytest.raises(NetworkFileError):
            read_network(content)


def test_damaged_files_end_in_a_refusal_or_in_numbers() -> None:
    whole = by_hand.tflite(network())
    image = RNG.random((1, 5, 6, 3), np.float32)
    generator, refused = np.random.default_rng(3), 0
    for _ in range(300):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 3):
            content[place] = generator.integers(0, 256)
        cut = generator.integers(8, len(content) + 1) if generator.random() < 0.3 else None
        try:
            damaged = read_network(bytes(content[:cut]))
            check_shapes(damaged)
            TorchRunner(damaged)(image)
        except NetworkFileError:
            refused += 1
    assert refused > 50
