"""Speed and size of the networks: against their plain formulation, and XS on its own.

Ratios are medians over interleaved runs, so that both sides meet the same noise. Peak memory is
that of the tensors of a training step beyond the weights, which is the same in every run; the
resident size of the process moves by more than the two formulations differ.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from pchmr.body import load_body
from pchmr.config import BenchConfig
from pchmr.models import MODELS, build_model
from pchmr.models.hmr import HMRModel
from pchmr.models.output import HMROutput
from pchmr.models.plain import plain_copy
from pchmr.results import MEASURED, Number, ResultRow, Start, Target, figure

BATCH_SIZE, XS_BATCH_SIZE = 8, 32
INFERENCE_TARGETS = {"fastmetro_s": 1.2, "tore_s": 1.1}
XS_NAMES = tuple(name for name in MODELS if name.endswith("_xs"))
XS_TARGET_PARAMETERS = 5_000_000
MIB = 2**20


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows with figure, value, unit and target; CPU times on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name in INFERENCE_TARGETS:
        rows += inference(name, config.repeats)
        rows += training(name)
    for name in XS_NAMES:
        rows += small(name, config.repeats)
    return rows


def row(label: str, value: Number, unit: str, target: Target) -> ResultRow:
    """One figure, rounded to four digits, of a network with random weights."""
    made = figure(label, float(f"{value:.4g}"), unit, target)
    return replace(made, started_from=Start(kind="random"))


def made(name: str) -> HMRModel:
    """The network on the embedded body."""
    return build_model(name, load_body().hierarchy)


def cpu_ms(run: Callable[[], Any]) -> float:
    """Process CPU time of one call in milliseconds."""
    began = time.process_time()
    run()
    return (time.process_time() - began) * 1e3


def interleaved(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each, measured in turns after one warm-up turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            spent = cpu_ms(run)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


@torch.no_grad()
def inference(name: str, repeats: int) -> list[ResultRow]:
    """Batch 1: how much faster than the plain formulation, and how far from it."""
    fast = made(name).eval()
    plain = plain_copy(fast)
    image = torch.rand(1, 3, fast.image_size, fast.image_size)
    spent = interleaved({"fast": lambda: fast(image), "plain": lambda: plain(image)}, repeats)
    apart = (fast(image).vertices - plain(image).vertices).abs().max().item()
    target = INFERENCE_TARGETS[name]
    return [
        row(
            f"{name} inference over plain",
            spent["plain"] / spent["fast"],
            "x",
            Target(">=", target),
        ),
        row(f"{name} inference", spent["fast"], "CPU-ms", MEASURED),
        row(f"{name} distance from plain", apart, "m", Target("<=", 1e-5)),
    ]


def training(name: str) -> list[ResultRow]:
    """A training step of batch 8: CPU time and peak memory against the plain formulation."""
    rows = []
    found = {}
    for kind in ("fast", "plain"):
        with get_context("spawn").Pool(1) as pool:
            found[kind] = pool.apply(training_cost, (name, kind == "plain"))
    for index, (what, unit) in enumerate((("CPU time", "CPU-s"), ("peak memory", "MiB"))):
        fast, plain = found["fast"][index], found["plain"][index]
        limit = Target("<", plain, f"< {plain:.4g} (plain)")
        rows.append(row(f"{name} training step {what}", fast, unit, limit))
    return rows


def training_cost(name: str, is_plain: bool) -> tuple[float, float]:
    """CPU seconds of the cheaper of two steps, and peak MiB of a third; for a fresh process."""
    torch.set_num_threads(1)
    model = made(name)
    if is_plain:
        model = plain_copy(model)
    model.train()
    images = torch.rand(BATCH_SIZE, 3, model.image_size, model.image_size)
    spent = min(cpu_ms(lambda: step(model, images)) for _ in range(2)) / 1e3
    return spent, peak_mib(lambda: step(model, images))


def peak_mib(run: Callable[[], None]) -> float:
    """Most memory in MiB that tensors held at once, beyond what they held before."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiled:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in events if event["name"] == "[memory]"]
    first = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return (max(change["Total Allocated"] for change in changes) - first) / MIB


def step(model: HMRModel, images: torch.Tensor) -> None:
    """Forward and backward of a plain sum over all that the network returns."""
    output: HMROutput = model(images)
    parts = [part.abs().mean() for part in output if part is not None]
    torch.stack(parts).sum().backward()


def small(name: str, repeats: int) -> list[ResultRow]:
    """XS: cost of training and of inference for one image, parameters, file size."""
    model = made(name).train()
    images = torch.rand(XS_BATCH_SIZE, 3, model.image_size, model.image_size)
    trained = interleaved({"step": lambda: step(model, images)}, repeats)["step"]
    model.eval()
    with torch.no_grad():
        alone = interleaved({"one": lambda: model(images[:1])}, repeats)["one"]
    count = sum(parameter.numel() for parameter in model.parameters())
    limit = Target("<=", XS_TARGET_PARAMETERS)
    return [
        row(f"{name} training", trained / XS_BATCH_SIZE, "CPU-ms/image", MEASURED),
        row(f"{name} inference", alone, "CPU-ms", MEASURED),
        row(f"{name} parameters", count, "parameters", limit),
        row(f"{name} checkpoint, half precision", 2 * count / 1e6, "MB", Target("<=", 10)),
    ]
