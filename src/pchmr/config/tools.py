"""Configs of the verbs that train nothing: export, report, doctor, demo, bench."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pchmr.config.errors import require
from pchmr.config.options import Domain, ModelOptions

EXPORT_VARIANTS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a network for a device: ONNX files, and a card of how fast and how exact each is."""

    output: Path = Path("runs/export")
    """Folder for the .onnx files and card.json; an earlier export in it is replaced."""
    variants: str = ",".join(EXPORT_VARIANTS)
    """Forms to write, with commas: fp32, fp16, int8."""
    seed: int = 0
    """Seed of the rendered people, and of random weights."""
    num_calibration: int = 64
    """Rendered training people that set the ranges of int8."""
    num_held_out: int = 400
    """Rendered held-out people that every form is scored on; fewer are faster and decide less."""
    repeats: int = 10
    """Timed runs per form; the minimum and the median are kept."""
    cache: Path | None = None
    """Folder for rendered people (default: $PCHMR_CACHE or ~/.cache/pchmr)."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.variant_names if name not in EXPORT_VARIANTS]
        known = ", ".join(EXPORT_VARIANTS)
        require(not unknown, f"unknown --variants {', '.join(unknown)}; known: {known}")
        require(bool(self.variant_names), f"--variants is empty; give some of {known}")
        require(self.num_calibration >= 1, "--num-calibration must be at least 1")
        require(self.num_held_out >= 1, "--num-held-out must be at least 1")
        require(self.repeats >= 1, "--repeats must be at least 1")

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The forms asked for, each once."""
        return tuple(dict.fromkeys(filter(None, map(str.strip, self.variants.split(",")))))


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write one HTML page over run folders; or the tables, findings and curves of `results`."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Run folders, folders of run folders, or a folder of `pchmr bench` like `results`."""
    output: Path = Path("runs/report.html")
    """Page to write."""
    with_pictures: bool = False
    """Show pictures and meshes, also of people who stood before a camera."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Say what is installed, which licensed files were found, and what each would enable."""

    data_root: Path | None = None
    """Folder of licensed files (default: $PCHMR_DATA or ~/.pchmr)."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Tell the whole story on rendered people: before, centralized, federated, secure, report."""

    output: Path = Path("runs/demo")
    """Folder to write."""
    seed: int = 0
    """Seed of everything drawn."""
    quick: bool = False
    """The same story in under a minute, with small images and few rounds."""


COMPARISONS = (
    "learning-curves",
    "learning-samples",
    "client-scale",
    "ladder",
    "convergence",
    "plateau",
    "lda",
    "natural",
    "optimizers",
    "finetune",
    "byzantine",
)


PAPER_TABLES = ("client-scale", "lda", "natural", "finetune")
ALSO_READ = {"data": ("annotators", "recorded"), "num_seeds": ("personalize", "pfl", "batch-norm")}
"""Benchmarks that read a setting of comparisons without being one."""
BENCH_DEFAULTS = {"data": None, "domain": None, "scale": "cpu", "num_seeds": 1, "num_workers": 1}


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure, and append one JSON line per figure; without a name, list the benchmarks."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Benchmark: speed, rasterizer, body, federated, faults, secure, deploy, audit, noise, models,
    export, live, annotators, placing, people, imported, recorded, start, realism, crowds, seen,
    clips, personalize, pfl, batch-norm, or a comparison of runs: learning-curves, learning-samples,
    client-scale, ladder, convergence, plateau, lda, natural, optimizers, finetune, byzantine.
    Without one, each is listed and none is run."""
    output: Path = Path("results")
    """Folder of the JSONL files."""
    repeats: int = 5
    """Measurements per figure; the minimum and the median are kept."""
    data: Path | None = None
    """Folder of `pchmr data synth` in place of people rendered for it; for `--scale paper` and
    recorded, of `pchmr data import`."""
    domain: Domain | None = None
    """Rendered people of a comparison; without it, W, headset wearers (learning-curves,
    learning-samples and byzantine: B)."""
    scale: Literal["cpu", "gpu", "paper"] = "cpu"
    """Size of a comparison: XS networks on few images, S networks at 224 px, or the paper's own
    runs on an imported set (client-scale, lda, natural, finetune)."""
    body: Path | None = None
    """Body files for `--scale paper`; without them, the embedded body."""
    start: Path | None = None
    """Folder of start weights for `--scale paper`: resnet50.pth (client-scale, lda), or
    fastmetro_s.safetensors and tore_s.safetensors, trained on Human3.6M (natural, finetune)."""
    world: Literal[1, 2] | None = None
    """Of the rendered people that realism asks about; without it, the usual one."""
    num_seeds: int = 1
    """Seeds of a comparison, all cells of the first before those of the second."""
    num_workers: int = 1
    """Cells of a comparison that run side by side, each on one thread."""

    def __post_init__(self) -> None:
        require(self.num_seeds >= 1, "--num-seeds must be at least 1")
        require(self.num_workers >= 1, "--num-workers must be at least 1")
        own = f"not by {self.name or 'the list'}"
        paper = self.scale == "paper"
        require(
            not paper or self.name in PAPER_TABLES,
            f"--scale paper: the paper's tables are {', '.join(PAPER_TABLES)}",
        )
        require(
            paper or not (self.body or self.start),
            "--body and --start are read with --scale paper only: leave them out",
        )
        for name, default in BENCH_DEFAULTS.items():
            readers = (*ALSO_READ.get(name, ()), *COMPARISONS)
            said = f"--{name.replace('_', '-')} is read by {', '.join(readers)} only, {own}"
            is_read = getattr(self, name) == default or self.name in readers
            require(is_read, f"{said}: leave it out")
