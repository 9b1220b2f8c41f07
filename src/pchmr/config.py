"""One frozen dataclass per verb of the command line, with JSON in and out.

Field docstrings are the help texts. Nothing here imports torch or numpy, so `pchmr --help` answers
at once. Cross-field checks raise `SettingError`, which the command line prints as one line.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import tyro

Config = TypeVar("Config")
Domain = Literal["A", "B", "V"]
Partition = Literal["iid", "dirichlet", "natural", "shards"]
Algorithm = Literal[
    "fedavg", "fedavgm", "fedprox", "fedadam", "fedyogi", "fedadagrad", "scaffold", "fednova"
]
Device = Literal["auto", "cpu", "cuda"]


class UserError(ValueError):
    """What a user can mend; the command line prints its one line and exits with 2."""


class SettingError(UserError):
    """A setting that cannot be used: the message names it and the cure."""


def require(condition: bool, message: str) -> None:
    """Raises `SettingError` with the message unless the condition holds."""
    if not condition:
        raise SettingError(message)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which people to see."""

    data: Path | None = None
    """Folder of a data set; without it, embedded people are rendered (licence-free)."""
    domain: Domain = "B"
    """World of the embedded people: A pretraining, B clients, V VR-like."""
    num_samples: int = 2000
    """Images to train on."""
    num_test_samples: int = 320
    """Images of held-out people to score on."""
    data_seed: int | None = None
    """Seed that draws the embedded people; without it, `--seed`."""
    image_size: int | None = None
    """Side of a crop in pixels; without it, the model's own."""
    cache: Path | None = None
    """Folder for rendered people (default: $PCHMR_CACHE or ~/.cache/pchmr)."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "--num-samples must be at least 1")
        require(self.num_test_samples >= 1, "--num-test-samples must be at least 1")
        ok = self.image_size is None or self.image_size >= 32
        require(ok, "--image-size must be at least 32 pixels")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which network, on which body, started from what."""

    model: str = "fastmetro_xs"
    """Name of the network, see `pchmr doctor`."""
    checkpoint: Path | None = None
    """Weights (.safetensors, or an official .bin); without it, the shipped start weights."""
    from_scratch: bool = False
    """Start from random weights instead of the shipped ones."""
    backbone: str | None = None
    """Backbone in place of the model's own: resnet50, hrnet_w64, efficientnet_b0."""
    backbone_weights: Path | None = None
    """ImageNet weights of the backbone as a file (torchvision or timm names)."""
    body: Path | None = None
    """SMPL-format body file (.npz or .pkl); without it, the embedded licence-free body."""

    def __post_init__(self) -> None:
        require(
            not (self.from_scratch and self.checkpoint),
            "--from-scratch contradicts --checkpoint: leave one of them out",
        )


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """How weights are fitted."""

    learning_rate: float = 3e-4
    """AdamW learning rate at the start."""
    weight_decay: float = 1e-4
    """AdamW weight decay."""
    batch_size: int = 32
    """People per step."""
    clip: float = 0.3
    """Largest gradient: its norm, or each entry (see `--clip-by`)."""
    clip_by: Literal["norm", "value"] = "norm"
    """What `--clip` bounds: FastMETRO clips the norm, TORE each value."""
    loss: Literal["auto", "fastmetro", "tore", "xs", "keypoints"] = "auto"
    """Loss recipe; `auto` takes the model's own, `keypoints` trains XS's keypoint head alone."""
    paper_losses: bool = False
    """Reproduce the traps of the published code instead of correcting them."""
    augment: bool = True
    """Flip, color, rotate and scale the crops."""
    bf16: bool = False
    """Automatic mixed precision in bfloat16."""

    def __post_init__(self) -> None:
        require(self.learning_rate >= 0, "--learning-rate must not be negative")
        require(self.batch_size >= 1, "--batch-size must be at least 1")
        require(self.clip > 0, "--clip must be positive")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train centrally: every image in one place (the reference that federation is held against)."""

    output: Path = Path("runs/train")
    """Run folder to write."""
    seed: int = 0
    """Seed of data order, augmentation and random weights."""
    num_epochs: int = 5
    """Passes over the data."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Learning rate over the epochs; `step` divides it by 10 at half of them."""
    keypoint_epochs: int = 0
    """First epochs that train the keypoint head alone (XS models; a third of the cost)."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises from zero."""
    evaluate_every: int = 1
    """Epochs between scores on held-out people; 0 scores only at the end."""
    resume: bool = False
    """Go on from the last finished epoch of the run folder."""
    device: Device = "auto"
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


@dataclass(frozen=True, kw_only=True)
class PartitionOptions:
    """How people are dealt to clients, in detail."""

    partition_label: str | None = None
    """Column that decides: action (default for dirichlet, shards), scene (natural), subject..."""
    alpha: float = 1.0
    """Dirichlet concentration: small skews more, 100 is near iid."""
    equal_sizes: bool = False
    """Dirichlet with equal volumes, for many clients and a small alpha."""
    shards_per_client: int = 2
    """Shards of sorted people that each client gets."""

    def __post_init__(self) -> None:
        require(self.alpha > 0, "--alpha must be positive; small skews more, 100 is near iid")
        require(self.shards_per_client >= 1, "--shards-per-client must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the server does with updates, and what of the model trains and travels."""

    server_learning_rate: float | None = None
    """Step along the averaged update; without it 1, or 0.01 for fedadam, fedyogi, fedadagrad."""
    server_momentum: float = 0.9
    """Momentum of fedavgm."""
    beta_1: float = 0.9
    """Decay of the first moment of fedadam and fedyogi."""
    beta_2: float = 0.99
    """Decay of the second moment of fedadam and fedyogi."""
    tau: float = 1e-3
    """Adaptivity floor of fedadam, fedyogi and fedadagrad."""
    mu: float = 0.01
    """Proximal weight of fedprox; 0 is fedavg."""
    trainable: Literal["all", "head"] = "all"
    """What trains and travels: every weight, or all but the backbone."""
    batch_norm: Literal["average", "local", "freeze"] = "average"
    """Running statistics: averaged, kept by each client with its scales (FedBN), or left alone."""
    round_schedule: Literal["constant", "cosine", "step"] = "constant"
    """Client learning rate over the rounds; `step` divides it by 10 at half of them."""
    min_good_replies: int | None = None
    """Fewest good replies that change the model (default: half of the cohort)."""
    deadline_seconds: float | None = None
    """Longest wait for the replies of a cohort."""

    def __post_init__(self) -> None:
        rate = self.server_learning_rate
        require(rate is None or rate > 0, "--server-learning-rate must be positive")
        require(0 <= self.server_momentum < 1, "--server-momentum must lie in [0, 1)")
        require(0 <= self.beta_1 < 1 and 0 <= self.beta_2 < 1, "--beta-1, --beta-2: in [0, 1)")
        require(self.tau > 0, "--tau must be positive")
        require(self.mu >= 0, "--mu must not be negative")
        good, wait = self.min_good_replies, self.deadline_seconds
        require(good is None or good >= 1, "--min-good-replies must be at least 1")
        require(wait is None or wait > 0, "--deadline-seconds must be positive")


# Settings that only some partitions or algorithms read: changing one for another is refused.
READ_BY: dict[str, tuple[str, ...]] = {
    "partition_label": ("dirichlet", "natural", "shards"),
    "alpha": ("dirichlet",),
    "equal_sizes": ("dirichlet",),
    "shards_per_client": ("shards",),
    "server_momentum": ("fedavgm",),
    "beta_1": ("fedadam", "fedyogi"),
    "beta_2": ("fedadam", "fedyogi"),
    "tau": ("fedadam", "fedyogi", "fedadagrad"),
    "mu": ("fedprox",),
}


def _require_read(options: Any, chosen: str) -> None:
    """Refuses a setting that was changed although the chosen partition or algorithm ignores it."""
    for f in dataclasses.fields(options):
        readers = READ_BY.get(f.name, (chosen,))
        flag = f.name.replace("_", "-")
        require(
            chosen in readers or getattr(options, f.name) == f.default,
            f"--{flag} is read by {', '.join(readers)} only, not by {chosen}: leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class FederateConfig:
    """Train federated with Flower: images stay with their clients, model updates travel."""

    output: Path = Path("runs/federate")
    """Run folder to write."""
    seed: int = 0
    """Seed of partition, cohorts, data order and random weights."""
    num_clients: int = 10
    """Clients in total."""
    clients_per_round: int = 10
    """Clients drawn each round."""
    num_rounds: int = 5
    """Rounds of training and aggregation."""
    local_epochs: int = 1
    """Passes over its own data that a client makes in a round."""
    partition: Partition = "iid"
    """How people are dealt to clients."""
    algorithm: Algorithm = "fedavg"
    """Server algorithm."""
    engine: Literal["inprocess", "ray"] = "inprocess"
    """Runtime that carries the messages; ray is an extra."""
    evaluate_every: int = 1
    """Rounds between scores on held-out people; 0 scores only at the end."""
    resume: bool = False
    """Go on from the last finished round of the run folder."""
    device: Device = "auto"
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

    def __post_init__(self) -> None:
        require(self.num_clients >= 1, "--num-clients must be at least 1")
        require(self.num_rounds >= 1, "--num-rounds must be at least 1")
        require(self.local_epochs >= 1, "--local-epochs must be at least 1")
        require(self.evaluate_every >= 0, "--evaluate-every must not be negative")
        require(
            1 <= self.clients_per_round <= self.num_clients,
            f"--clients-per-round {self.clients_per_round} must lie in 1 .. --num-clients "
            f"{self.num_clients}",
        )
        good = self.server_options.min_good_replies
        require(
            good is None or good <= self.clients_per_round,
            f"--min-good-replies {good} is more than --clients-per-round {self.clients_per_round}",
        )
        _require_read(self.partition_options, self.partition)
        _require_read(self.server_options, self.algorithm)
        if self.data_options.data is None:
            require(
                self.num_clients <= self.data_options.num_samples,
                f"--num-clients {self.num_clients} is more than --num-samples "
                f"{self.data_options.num_samples}: every client needs a sample",
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a model on held-out people: MPJPE, PA-MPJPE, MPVPE in mm, baselines beside."""

    output: Path = Path("runs/evaluate")
    """Run folder to write."""
    seed: int = 0
    """Seed that draws the people."""
    device: Device = "auto"
    """Where to compute."""
    data_options: DataOptions = field(default_factory=DataOptions)
    """Which people to see."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Recover the mesh of the person in a photo, a folder of photos or a video."""

    images: Annotated[Path, tyro.conf.Positional]
    """Photo, folder of photos, or video."""
    output: Path = Path("runs/predict")
    """Folder for overlays (.png), meshes (.glb) and parameters (.npz)."""
    bbox: str | None = None
    """Box of the person, `x,y,w,h` in pixels; without it, the crop is found."""
    device: Device = "auto"
    """Where to compute."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write one HTML page over run folders: tables, curves, contact sheet."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Run folders, or folders of run folders."""
    output: Path = Path("runs/report.html")
    """Page to write."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Say what is installed, which licensed files were found, and what each would enable."""

    data_root: Path | None = None
    """Folder of licensed files (default: $PCHMR_DATA or ~/.pchmr)."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Tell the whole story on rendered people: before, centralized, federated, report."""

    output: Path = Path("runs/demo")
    """Folder to write."""
    seed: int = 0
    """Seed of everything drawn."""
    quick: bool = False
    """The same story in under a minute, with small images and few rounds."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure, and append one JSON line per figure."""

    name: Annotated[str, tyro.conf.Positional] = "speed"
    """Benchmark, see `pchmr doctor`."""
    output: Path = Path("results")
    """Folder of the JSONL files."""
    repeats: int = 5
    """Measurements per figure; the minimum and the median are kept."""


def to_json(config: Any) -> str:
    """The whole resolved config as JSON; `from_json` reads it back unchanged."""
    return json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"


def from_json(kind: type[Config], text: str) -> Config:
    """A config from JSON; unknown keys, wrong types and contradictions are refused by name."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingError(f"config is not JSON: {error}") from None
    return from_dict(kind, raw)


def from_dict(kind: type[Config], raw: Any) -> Config:
    """A config from plain values; see `from_json`."""
    require(isinstance(raw, dict), f"config of {kind.__name__} must be an object with settings")
    hints = get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - names)
    require(not unknown, f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    return kind(**{name: _convert(name, hints[name], value) for name, value in raw.items()})


def _convert(name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value)  # type: ignore[arg-type]
    if hint is float and type(value) is int:
        return float(value)
    for accepted in _accepted(hint):
        if accepted is Path and isinstance(value, str):
            return Path(value)
        if accepted is tuple and isinstance(value, list):
            return tuple(Path(item) for item in value)
        if isinstance(accepted, type):
            if type(value) is accepted:
                return value
        elif value == accepted:
            return value
    raise SettingError(f"setting {name} cannot be {value!r}; expected {hint}")


def _accepted(hint: Any) -> tuple[Any, ...]:
    """Types, and for a Literal the values, that a hint accepts."""
    if getattr(hint, "__origin__", None) is tuple:
        return (tuple,)
    arguments = getattr(hint, "__args__", None)
    if arguments is None:
        return (hint,)
    return tuple(item for argument in arguments for item in _accepted(argument))
