"""One frozen dataclass per verb of the command line; field docstrings are the help texts."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pchmr.choices import ALGORITHMS, PARTITIONS, Choice, readers
from pchmr.config.errors import require
from pchmr.config.marks import COMPARE, KEY, LONGER, RESUME, marked, marks_of
from pchmr.config.options import (
    DataOptions,
    ModelOptions,
    OptimOptions,
    PartitionOptions,
    ServerOptions,
)
from pchmr.config.privacy import PrivacyOptions

if TYPE_CHECKING:
    Partition = str
    Algorithm = str
else:
    Partition = Literal[tuple(PARTITIONS)]
    Algorithm = Literal[tuple(ALGORITHMS)]
Device = Literal["auto", "cpu", "cuda"]
ShapeExport = Literal["neutral", "fitted"]
Smoothing = Literal["clip", "live", "none"]
FORMATS = ("overlay", "glb", "gltf", "bvh", "npz", "csv")
"""Files that `predict` writes."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train centrally: every image in one place (the reference that federation is held against)."""

    output: Path = marked(Path("runs/train"), RESUME, COMPARE, KEY)
    """Run folder to write."""
    seed: int = marked(0, COMPARE)
    """Seed of data order, augmentation and random weights."""
    num_epochs: int = marked(5, LONGER + "schedule")
    """Passes over the data."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Learning rate over the epochs; `step` divides it by 10 at half of them."""
    keypoint_epochs: int = 0
    """First epochs that train the keypoint head alone (XS models; a third of the cost)."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises from zero."""
    evaluate_every: int = marked(1, RESUME, COMPARE, KEY)
    """Epochs between scores on held-out people; 0 scores only at the end."""
    resume: bool = marked(False, RESUME, COMPARE, KEY)
    """Go on from the last finished epoch of the run folder."""
    compile: bool = False
    """Build the network with torch.compile: minutes at the start, faster steps on a GPU."""
    device: Device = marked("auto", COMPARE, KEY)
    """Where to compute."""
    data_options: DataOptions = field(default_factory=DataOptions)
    """Which people to see."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""
    optim_options: OptimOptions = field(default_factory=OptimOptions)
    """How weights are fitted."""

    def __post_init__(self) -> None:
        require(self.num_epochs >= 1, "--num-epochs must be at least 1")
        require(self.evaluate_every >= 0, "--evaluate-every must not be negative")
        require(self.warmup_epochs >= 0, "--warmup-epochs must not be negative; 0 is no warm-up")
        require(self.keypoint_epochs >= 0, "--keypoint-epochs must not be negative; 0 is none")


def _require_read(options: Any, table: Mapping[str, Choice], chosen: str) -> None:
    """Refuses a setting that was changed although the chosen partition or algorithm ignores it."""
    for f in dataclasses.fields(options):
        those = readers(table, f.name)
        flag = f.name.replace("_", "-")
        require(
            chosen in those or getattr(options, f.name) == f.default,
            f"--{flag} is read by {', '.join(those)} only, not by {chosen}: leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class FederateConfig:
    """Train federated with Flower: images stay with their clients, model updates travel."""

    output: Path = marked(Path("runs/federate"), RESUME, COMPARE, KEY)
    """Run folder to write."""
    seed: int = marked(0, COMPARE)
    """Seed of partition, cohorts, data order and random weights."""
    num_clients: int = 10
    """Clients in total."""
    clients_per_round: int = 10
    """Clients drawn each round."""
    num_rounds: int = marked(5, LONGER + "round_schedule")
    """Rounds of training and aggregation."""
    local_epochs: int = 1
    """Passes over its own data that a client makes in a round."""
    partition: Partition = "iid"
    """How people are dealt to clients."""
    algorithm: Algorithm = "fedavg"
    """Server algorithm."""
    engine: Literal["inprocess", "ray"] = marked("inprocess", RESUME, KEY)
    """Runtime that carries the messages; ray is an extra."""
    num_workers: int = marked(1, RESUME, KEY)
    """Processes that play clients side by side; 1 plays them one after the other in this one."""
    evaluate_every: int = marked(1, RESUME, COMPARE, KEY)
    """Rounds between scores on held-out people; 0 scores only at the end."""
    resume: bool = marked(False, RESUME, COMPARE, KEY)
    """Go on from the last finished round of the run folder."""
    device: Device = marked("auto", COMPARE, KEY)
    """Where to compute."""
    data_options: DataOptions = field(default_factory=DataOptions)
    """Which people to see."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""
    optim_options: OptimOptions = field(default_factory=OptimOptions)
    """How weights are fitted on a client."""
    partition_options: PartitionOptions = field(default_factory=PartitionOptions)
    """How people are dealt, in detail."""
    server_options: ServerOptions = field(default_factory=ServerOptions)
    """What the server does with updates."""
    privacy_options: PrivacyOptions = field(default_factory=PrivacyOptions)
    """What the server may learn of a client."""

    def __post_init__(self) -> None:
        require(self.num_clients >= 1, "--num-clients must be at least 1")
        require(self.num_rounds >= 1, "--num-rounds must be at least 1")
        require(self.local_epochs >= 1, "--local-epochs must be at least 1")
        require(self.num_workers >= 1, "--num-workers must be at least 1")
        require(self.evaluate_every >= 0, "--evaluate-every must not be negative")
        require(
            1 <= self.clients_per_round <= self.num_clients,
            f"--clients-per-round {self.clients_per_round} must lie in 1 .. --num-clients "
            f"{self.num_clients}",
        )
        own = "--on-the-fly is for `pchmr train`: a client keeps its own people, epoch by epoch"
        require(not self.data_options.on_the_fly, own)
        alone = "--bystanders is for `pchmr train`: every client would have to render others"
        require(not self.optim_options.bystanders, alone)
        good = self.server_options.min_good_replies
        require(
            good is None or good <= self.clients_per_round,
            f"--min-good-replies {good} is more than --clients-per-round {self.clients_per_round}",
        )
        left_out = self.num_left_out
        require(
            left_out < min(self.clients_per_round, good or self.clients_per_round),
            f"--aggregation-rule {self.server_options.rule} leaves out {left_out} replies "
            "(see --trimmed-replies): --clients-per-round and --min-good-replies must be more",
        )
        _require_read(self.partition_options, PARTITIONS, self.partition)
        _require_read(self.server_options, ALGORITHMS, self.algorithm)
        heads_first = "--algorithm fedrep trains heads first: give at least 2 --local-epochs"
        require(self.algorithm != "fedrep" or self.local_epochs > 1, heads_first)
        self.privacy_options.check(self.clients_per_round, self.algorithm, self.server_options)
        if self.data_options.data is None:
            require(
                self.num_clients <= self.data_options.num_samples,
                f"--num-clients {self.num_clients} is more than --num-samples "
                f"{self.data_options.num_samples}: every client needs a sample",
            )

    @property
    def num_tolerated(self) -> int:
        """Bad clients in a cohort that the aggregation rule is set for; 0 for rules without."""
        if self.server_options.rule not in ("trimmed", "multi-krum"):
            return 0
        return self.server_options.trimmed_replies or max(1, (self.clients_per_round - 1) // 3)

    @property
    def num_left_out(self) -> int:
        """Replies that the aggregation rule leaves out, or cannot do without."""
        beside = {"trimmed": self.num_tolerated, "multi-krum": 2}
        return self.num_tolerated + beside.get(self.server_options.rule, 0)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a model on held-out people: MPJPE, PA-MPJPE, MPVPE in mm, baselines beside."""

    output: Path = marked(Path("runs/evaluate"), RESUME, COMPARE, KEY)
    """Run folder to write."""
    seed: int = marked(0, COMPARE)
    """Seed that draws the people."""
    protocol: Literal["all", "h36m-p2", "3dpw", "emdb1", "emdb2"] = "all"
    """Which held-out people count; h36m-p2: S9 and S11 of Human3.6M in the frontal camera; 3dpw:
    its test sequences; emdb1, emdb2: the sequences of these, the latter scored in the world too."""
    joint_truth: Literal["labels", "paper"] | None = None
    """True joints: the mesh's without it; labels: labeled ones where there are any, as papers do;
    paper: only those, averaged over batches and processes as the published code does."""
    bf16: bool = False
    """Run the network in bfloat16; coordinates stay in float32."""
    device: Device = marked("auto", COMPARE, KEY)
    """Where to compute."""
    data_options: DataOptions = field(default_factory=DataOptions)
    """Which people to see."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Recover the meshes of the people in a photo, a folder of photos or a video."""

    images: Annotated[Path, tyro.conf.Positional]
    """Photo, folder of photos, or video."""
    output: Path = Path("runs/predict")
    """Folder for overlays (.png), meshes (.glb) and parameters (.npz)."""
    bbox: str | None = None
    """Box of the person, `x,y,w,h` in pixels; without it, people are looked for."""
    person: str = "all"
    """Who: all, largest, or a number: 1 is the surest in a photo, who came first in a video."""
    refine: bool = True
    """Fit the body to what a photo-trained network sees, from the prediction on; takes effect where
    `pchmr priors get blazepose` has fetched it."""
    focal: float | None = None
    """Focal length in pixels; without it, from EXIF, else estimated."""
    format: str = "overlay,glb,npz"
    """Files by commas: overlay (png or mp4), glb, gltf, bvh (one a person), npz, csv."""
    shape: ShapeExport = "neutral"
    """Body shape in glb, gltf, bvh, csv and SMPL files, which may be handed on: shape can be
    health or biometric data. The npz of the result always holds the fitted one."""
    smoothing: Smoothing = "clip"
    """Motion of a video: all frames of a person fitted together, a filter that knows no future,
    or frames as they are."""
    device: Device = "auto"
    """Where to compute."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        require(
            not unknown,
            f"--format {', '.join(unknown)}: give some of {','.join(FORMATS)}",
        )
        require(bool(self.formats), f"--format is empty: give some of {','.join(FORMATS)}")
        require_person(self.person)
        require(
            self.bbox is None or self.person == "all",
            "--bbox names the person already: leave --person out",
        )
        ok = self.focal is None or 0 < self.focal < math.inf
        require(ok, f"--focal {self.focal}: give a positive number of pixels")

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the files to write, each once."""
        names = (name.strip() for name in self.format.split(","))
        return tuple(dict.fromkeys(name for name in names if name))


def require_person(who: str) -> None:
    """Refuses what names nobody."""
    number = who.isdecimal() and who.isascii() and int(who) >= 1
    require(
        who in ("all", "largest") or number,
        f"--person {who}: give all, largest, or a number from 1",
    )


SETS = ("3dpw", "emdb", "h36m", "tsv", "npz", "truth")
"""Data sets with pictures that can be imported."""
POSE_SETS = ("amass", "bvh")
"""Recordings of motion that can be imported as poses of rendered people."""
ARGUMENTS = {"import": 3, "check": 1, "export": 2}
"""Words that a task of `data` takes at most."""
READ_BY_TASK = {"poses": ("synth",), "truth": ("import",), "every": ("import",)}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Import a data set, check one, render people into a folder, or show who gets which people."""

    task: Annotated[
        Literal["import", "check", "synth", "partition", "export"], tyro.conf.Positional
    ]
    """What to do: `import SET SRC DST` (SET: 3dpw, emdb, h36m, tsv, npz, truth; amass or bvh make
    poses for `--poses`), `check [DST]`, `export DST DIR` (METRO's TSV), `synth`, `partition`."""
    arguments: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Set and folders of the task."""
    output: Path = Path("runs/data")
    """Folder to write; `import` and `export` are told theirs."""
    seed: int = 0
    """Seed that draws the people and deals them."""
    num_clients: int = 10
    """Clients that `partition` deals to."""
    partition: Partition = "dirichlet"
    """How `partition` deals them."""
    show: bool = True
    """Draw the label-by-client picture of `partition`; without it, figures and hash alone."""
    body: Path | None = None
    """SMPL-format body file, or a folder with one a gender; without it, the embedded body."""
    truth: Literal["gendered", "neutral"] | None = None
    """Whose meshes `import` makes the truth of; without it gendered, where `--body` holds both."""
    every: int | None = None
    """One of so many frames that `import` takes; without it, the published number."""
    poses: Path | None = None
    """Poses of `data import amass` or `bvh` that `synth` renders in place of the templates."""
    data_options: DataOptions = field(default_factory=DataOptions)
    """Which people."""
    partition_options: PartitionOptions = field(default_factory=PartitionOptions)
    """How people are dealt, in detail."""

    def __post_init__(self) -> None:
        require(self.num_clients >= 1, "--num-clients must be at least 1")
        require(self.every is None or self.every >= 1, "--every must be at least 1")
        require(self.data_options.data is None, "--data: `pchmr data` is told its folders by place")
        require(not self.data_options.with_pictures, "--with-pictures: only for runs; leave it out")
        for name, tasks in READ_BY_TASK.items():
            said = f"--{name} is read by {', '.join(tasks)} only, not by {self.task}"
            ok = getattr(self, name) is None or self.task in tasks
            require(ok, f"{said}: leave it out")
        self._check_arguments()
        _require_read(self.partition_options, PARTITIONS, self.partition)

    def _check_arguments(self) -> None:
        most = ARGUMENTS.get(self.task, 0)
        count = len(self.arguments)
        require(count <= most, f"`pchmr data {self.task}` takes {most} words, not {count}")
        if self.task == "export":
            require(count == 2, "`pchmr data export` takes an imported folder and one to write")
        if self.task == "import":
            known = ", ".join((*SETS, *POSE_SETS))
            require(count == 3, f"`pchmr data import` takes SET SRC DST; SET is one of {known}")
            named = self.arguments[0]
            require(named in (*SETS, *POSE_SETS), f"no reader of {named}; known: {known}")


MARKS = marks_of([TrainConfig, FederateConfig, EvaluateConfig])


def settings_marked(mark: str) -> frozenset[str]:
    """Names of the settings of runs that carry a mark."""
    return frozenset(name for name, marks in MARKS.items() if mark in marks)


def lengths() -> dict[str, str]:
    """Settings that may grow when a run goes on, and the schedule that must be constant."""
    return {
        name: mark.removeprefix(LONGER)
        for name, marks in MARKS.items()
        for mark in marks
        if mark.startswith(LONGER)
    }
