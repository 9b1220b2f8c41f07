"""Speed of exported networks: the whole over its backbone alone, and int8 over PyTorch.

CPU time of one crop on one thread, medians over interleaved runs. Random weights: speed does not
depend on their values, and int8 is calibrated on rendered training people all the same. What int8
costs in accuracy is measured with the shipped weights of XS.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.bench.models import interleaved, row
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, DataOptions, ExportConfig, ModelOptions
from pchmr.data import load_people
from pchmr.device.export import ALLOWED_COST_MM, build, open_trial
from pchmr.device.graph import export_model, write_graph
from pchmr.device.measured import measure_file, measure_torch, singles
from pchmr.device.runtime import OnnxModel
from pchmr.device.variants import fold, write_fp16, write_int8
from pchmr.models import MODELS, HMRModel, build_model, load_model
from pchmr.results import MEASURED, ResultRow, Start, Target

OVER_BACKBONE = {"fastmetro_s": 1.55, "tore_s": 1.18}
INT8 = {"fastmetro_s": Target("<=", 0.4)}
NUM_CALIBRATION = 16
NUM_HELD_OUT = 400  # people that the cost of int8 is measured on
XS_NAMES = tuple(name for name in MODELS if name.endswith("_xs"))


class BackboneAlone(nn.Module):
    """Normalization and backbone: what no head can be faster than."""

    def __init__(self, model: HMRModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.register_buffer("mean", model.image_mean)
        self.register_buffer("std", model.image_std)

    def forward(self, image: Float[Tensor, "1 3 height width"]) -> Tensor:
        """The feature map."""
        image = (image - self.get_buffer("mean")) / self.get_buffer("std")
        extract: Callable[[Tensor], Tensor] = self.backbone.forward_features  # type: ignore[assignment]
        return extract(image)


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the published networks, then of XS."""
    torch.set_num_threads(1)
    body = load_body()
    rows = []
    for name in (*OVER_BACKBONE, *XS_NAMES):
        with TemporaryDirectory(prefix="pchmr-bench-") as folder:
            rows += of_model(name, body, Path(folder), config.repeats)
    for name in XS_NAMES:
        with TemporaryDirectory(prefix="pchmr-bench-") as folder:
            rows.append(int8_cost(name, body, Path(folder)))
    return rows


def int8_cost(name: str, body: BodyModel, folder: Path) -> ResultRow:
    """MPJPE that the shipped weights lose in 8 bits on held-out people of A."""
    options = ModelOptions(model=name)
    config = ExportConfig(model_options=options, num_held_out=NUM_HELD_OUT, repeats=1)
    model, started_from = load_model(options, body.hierarchy, seed=config.seed)
    trial = open_trial(config, body, model.image_size)
    path = build(model.eval(), trial, ("int8",), folder)["int8"]
    reference, about = measure_torch(model, trial)
    cost = measure_file(path, trial, reference, about["mpjpe_mm"])["cost_mm"]
    assert cost is not None  # rendered people are labeled
    figure = f"{name} int8, MPJPE lost on {len(trial.held_out)} people"
    made = row(figure, cost, "mm", Target("<=", ALLOWED_COST_MM))
    return replace(made, started_from=Start.of(started_from))


@torch.no_grad()
def of_model(name: str, body: BodyModel, folder: Path, repeats: int) -> list[ResultRow]:
    """Exports a network and its backbone, and times them in turns."""
    torch.manual_seed(0)
    model = build_model(name, body.hierarchy).eval()
    sessions = exported(model, body, folder)
    image = torch.rand(1, 3, model.image_size, model.image_size)
    runs: dict[str, Callable[[], Any]] = {"pytorch": lambda: model(image)}
    for key, session in sessions.items():
        runs[key] = lambda session=session: session.raw(image.numpy())
    spent = interleaved(runs, repeats)
    apart = (sessions["fp32"](image)["vertices"] - model(image).vertices).abs().max().item()
    over = [
        row(
            f"{name} {key} over fp32 PyTorch, CPU time",
            spent[key] / spent["pytorch"],
            "ratio",
            INT8.get(name, MEASURED) if key == "int8" else MEASURED,
        )
        for key in ("fp32", "fp16", "int8")
    ]
    if name in OVER_BACKBONE:
        ratio, target = spent["fp32"] / spent["backbone"], Target("<=", OVER_BACKBONE[name])
        over.insert(0, row(f"{name} ONNX fp32 over its backbone alone", ratio, "ratio", target))
    return [
        *over,
        row(f"{name} ONNX fp32, one crop", spent["fp32"], "CPU-ms", MEASURED),
        row(f"{name} ONNX fp32 distance from PyTorch", apart, "m", Target("<=", 1e-5)),
    ]


def exported(model: HMRModel, body: BodyModel, folder: Path) -> dict[str, OnnxModel]:
    """The forms of a network, and of its backbone where it has a target, ready to run."""
    paths = {key: folder / f"{key}.onnx" for key in ("fp32", "folded", "fp16", "int8", "backbone")}
    export_model(model, paths["fp32"])
    fold(paths["fp32"], paths.pop("folded"))
    folded = folder / "folded.onnx"
    write_fp16(folded, paths["fp16"])
    options = DataOptions(domain="A", num_samples=NUM_CALIBRATION)
    people = load_people(options, "train", body=body, seed=0, image_size=model.image_size)
    write_int8(folded, paths["int8"], (sample.images[0].numpy() for sample in singles(people)))
    if model.name in OVER_BACKBONE:
        write_graph(BackboneAlone(model), model.image_size, ["features"], paths["backbone"])
    else:
        del paths["backbone"]
    return {key: OnnxModel(path) for key, path in paths.items()}
