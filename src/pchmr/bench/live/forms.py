"""Exported networks under onnxruntime: frames a second in 8 bits, and how far fp32 is off.

Speed does not depend on the values of weights, so the larger network has random ones.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pchmr.bench.models import row
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, DataOptions, ModelOptions
from pchmr.data import load_people
from pchmr.device.graph import export_model
from pchmr.device.measured import difference_m, singles
from pchmr.device.runtime import OnnxModel
from pchmr.device.variants import fold, write_int8
from pchmr.models import HMRModel, build_model, load_model
from pchmr.results import MEASURED, ResultRow, Target

NUM_CALIBRATION = 16
RUNS = 20  # of one repeat
SPEEDS = (("fastmetro_xs", 1, 100), ("fastmetro_s", 2, 40))
"""Network, threads, frames a second that are promised in 8 bits."""
EXACT = Target("<=", 1e-4)


def exported_forms(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of each network of `SPEEDS`."""
    body = load_body()
    for name, threads, promised in SPEEDS:
        model = _made(name, body)
        with TemporaryDirectory(prefix="pchmr-bench-") as folder:
            exact, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            export_model(model, exact)
            apart = difference_m(model, exact)
            yield row(f"{name} fp32 export against PyTorch", apart, "m", EXACT)
            gained = bf16_gain(model, config.repeats)
            yield row(f"{name} in PyTorch, bf16 over fp32, one thread", gained, "x", MEASURED)
            _write_int8(model, body, exact, small)
            rate = frames_a_second(OnnxModel(small, threads), config.repeats)
            words = "one thread" if threads == 1 else f"{threads} threads"
            yield row(f"{name} int8, {words}", rate, "frames/s", Target(">=", promised))


def _made(name: str, body: BodyModel) -> HMRModel:
    if name.endswith("_xs"):
        return load_model(ModelOptions(model=name), body.hierarchy, seed=0)[0].eval()
    torch.manual_seed(0)
    return build_model(name, body.hierarchy).eval()


def _write_int8(model: HMRModel, body: BodyModel, exact: Path, small: Path) -> None:
    folded = exact.with_name("folded.onnx")
    fold(exact, folded)
    options = DataOptions(domain="A", num_samples=NUM_CALIBRATION)
    people = load_people(options, "train", body=body, seed=0, image_size=model.image_size)
    write_int8(folded, small, (sample.images[0].numpy() for sample in singles(people)))


def bf16_gain(model: HMRModel, repeats: int) -> float:
    """How many times as fast one crop is in bfloat16; below 1 where the processor lacks it."""
    image = torch.full((1, 3, model.image_size, model.image_size), 0.5)

    def run(enabled: bool) -> float:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(image)
            return fastest(lambda: model(image), repeats)

    return run(False) / run(True)


def frames_a_second(model: OnnxModel, repeats: int) -> float:
    """Of the fastest of some turns, by the clock on the wall."""
    return 1e3 / milliseconds(model, repeats)


def milliseconds(model: OnnxModel, repeats: int) -> float:
    """Wall-clock time of one crop in the fastest of some turns."""
    image = torch.full(model.shape, 0.5).numpy()
    model.raw(image)
    return fastest(lambda: model.raw(image), repeats)


def fastest(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of one run in the fastest of some turns."""
    turns = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(RUNS):
            run()
        turns.append(1e3 * (time.perf_counter() - began) / RUNS)
    return min(turns)
