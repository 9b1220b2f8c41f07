"""Groups of settings that several verbs share: people, network, fitting, dealing, server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pchmr.config.errors import require
from pchmr.config.marks import COMPARE, KEY, RESUME, SCORED, marked

Domain = Literal["A", "B", "V", "W"]
DEFAULT_SAMPLES = (2000, 320)
"""Images to train on and to score on."""
PRIVATE_DATA = "private-data-sha256-"
"""What the config of a private run holds in place of the folder of its data, and the hash."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which people to see."""

    data: Path | None = marked(None, RESUME, SCORED)
    """Folder of `pchmr data import`, `data synth` or `annotate`; without it, embedded people are
    rendered (licence-free)."""
    domain: Domain = marked("B", SCORED)
    """World of the embedded people: A pretraining, B clients, V VR-like, W so with many people."""
    num_samples: int = DEFAULT_SAMPLES[0]
    """Images to train on; of an imported set, this default stands for all."""
    num_test_samples: int = marked(DEFAULT_SAMPLES[1], SCORED)
    """Images of held-out people to score on; of an imported set, this default stands for all."""
    world: Literal[1, 2] | None = None
    """Version of the embedded people: 1 is plain, 2 has photographed places and clothes with folds;
    without it, the one that the start weights were trained on (`data synth --domain V`: 2)."""
    data_seed: int | None = marked(None, COMPARE)
    """Seed that draws the embedded people; without it, `--seed`."""
    image_size: int | None = marked(None, SCORED)
    """Side of a crop in pixels; without it, the model's own."""
    cache: Path | None = marked(None, RESUME, COMPARE, KEY)
    """Folder for rendered people (default: $PCHMR_CACHE or ~/.cache/pchmr)."""
    on_the_fly: bool = False
    """Render the people to train on during training, others in every epoch; nothing is stored."""

    with_pictures: bool = marked(False, RESUME, COMPARE)
    """Keep examples with pictures and meshes, also of people who stood before a camera."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "--num-samples must be at least 1")
        require(self.num_test_samples >= 1, "--num-test-samples must be at least 1")
        ok = self.image_size is None or self.image_size >= 32
        require(ok, "--image-size must be at least 32 pixels")
        require(
            not (self.on_the_fly and self.data),
            "--on-the-fly renders embedded people and cannot read --data: leave one of them out",
        )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which network, on which body, started from what."""

    model: str = marked("fastmetro_xs", SCORED)
    """Name of the network, see `pchmr doctor`."""
    checkpoint: Path | None = marked(None, RESUME, SCORED)
    """Weights (.safetensors, or an official .bin); without it, the shipped start weights."""
    edition: int | None = marked(None, KEY, SCORED)
    """Earlier shipped start weights in place of the latest: those of comparisons of edition 2."""
    from_scratch: bool = marked(False, SCORED)
    """Start from random weights instead of the shipped ones."""
    backbone: str | None = marked(None, SCORED)
    """Backbone in place of the model's own: resnet50, hrnet_w64, efficientnet_b0."""
    backbone_weights: Path | None = marked(None, RESUME, SCORED)
    """ImageNet weights of the backbone as a file (torchvision or timm names)."""
    body: Path | None = marked(None, RESUME, SCORED)
    """SMPL-format body file (.npz or .pkl); without it, the embedded licence-free body."""
    smpl_head: bool = False
    """Add FastMETRO's SMPL parameter regressor: rotations and betas beside the mesh."""
    keep_ratio: float | None = None
    """Share of the image tokens that TORE keeps (published and without it: 0.8)."""
    learned_upsample: bool = False
    """Mid to fine vertices by a learned layer instead of the body's own weights."""

    def __post_init__(self) -> None:
        require(
            not (self.from_scratch and self.checkpoint),
            "--from-scratch contradicts --checkpoint: leave one of them out",
        )
        require(
            self.edition is None
            or not (self.checkpoint or self.from_scratch or self.backbone_weights),
            "--edition is of shipped start weights and contradicts --checkpoint, --from-scratch "
            "and --backbone-weights: leave it out",
        )
        ratio = self.keep_ratio
        require(ratio is None or 0 < ratio <= 1, "--keep-ratio must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """How weights are fitted."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalizes the steps of matrices: fewer images from random weights."""
    learning_rate: float = 3e-4
    """Learning rate at the start, on AdamW's scale."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
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
    surface_terms: bool = False
    """Add TORE's optional terms on the fine mesh: edge lengths and normals."""
    augment: bool = True
    """Flip, color, rotate and scale the crops."""
    paper_augment: bool | None = None
    """Augment as far as the papers do (wider, and 2D labels on whole pixels); without it, as
    `--paper-losses` says."""
    bystanders: float = 0.0
    """Share of augmented crops in which other rendered people stand beside, or the picture ends."""
    bf16: bool = False
    """Automatic mixed precision in bfloat16."""

    def __post_init__(self) -> None:
        require(0 <= self.bystanders <= 1, "--bystanders is a share, from 0 to 1")
        require(
            self.augment or not self.bystanders,
            "--bystanders contradicts --no-augment: leave one of them out",
        )
        require(self.learning_rate >= 0, "--learning-rate must not be negative")
        require(self.batch_size >= 1, "--batch-size must be at least 1")
        require(self.clip > 0, "--clip must be positive")
        require(self.weight_decay >= 0, "--weight-decay must not be negative; 0 is none")
        require(
            self.augment or not self.paper_augment,
            "--paper-augment contradicts --no-augment: leave one of them out",
        )

    @property
    def augments_as_published(self) -> bool:
        """Whether crops change as far as in the papers."""
        return self.paper_losses if self.paper_augment is None else self.paper_augment


LARGEST_ALPHA = 1e6


@dataclass(frozen=True, kw_only=True)
class PartitionOptions:
    """How people are dealt to clients, in detail."""

    partition_label: str | None = None
    """Column that decides: action (default for dirichlet, shards), scene (natural), subject,
    clip, or pose: groups of like poses."""
    alpha: float = 1.0
    """Dirichlet concentration: small skews more, 100 is near iid."""
    equal_sizes: bool = False
    """Dirichlet with equal volumes, for many clients and a small alpha."""
    shards_per_client: int = 2
    """Shards of sorted people that each client gets."""

    def __post_init__(self) -> None:
        require(
            0 < self.alpha <= LARGEST_ALPHA,
            f"--alpha must be positive and at most {LARGEST_ALPHA:g}; small skews more, 100 is "
            "near iid",
        )
        require(self.shards_per_client >= 1, "--shards-per-client must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the server does with updates, and what of the model trains and travels."""

    server_learning_rate: float | None = None
    """Step along the averaged update; without it 1, 0.7 for nesterov, or 0.01 for fedadam, fedyogi,
    fedadagrad."""
    server_momentum: float = 0.9
    """Momentum of fedavgm, and of nesterov (the outer optimizer of DiLoCo)."""
    beta_1: float = 0.9
    """Decay of the first moment of fedadam and fedyogi."""
    beta_2: float = 0.99
    """Decay of the second moment of fedadam and fedyogi."""
    tau: float = 1e-3
    """Adaptivity floor of fedadam, fedyogi and fedadagrad."""
    mu: float = 0.01
    """Proximal weight of fedprox, where 0 is fedavg, and of the clients' own networks in ditto."""
    own_share: float = 0.5
    """Share of a client's own network in the mixture that it uses with apfl."""
    trainable: Literal["all", "head", "lora"] = "all"
    """What trains and travels: every weight, all but the backbone, or low-rank corrections."""
    lora_rank: int = 8
    """Rank of the corrections of `--trainable lora`."""
    batch_norm: Literal["average", "local", "freeze"] = "average"
    """Running statistics: averaged, kept by each client with its scales (FedBN), or left alone."""
    client_state: Literal["average", "reset", "keep"] = "reset"
    """Moments of a client's optimizer after a round: averaged like its update and sent back,
    forgotten, or kept by the client."""
    held_out_share: float | None = None
    """Share of each client's images that it does not train on and is scored on at the end."""
    round_schedule: Literal["constant", "cosine", "step"] = "constant"
    """Client learning rate over the rounds; `step` divides it by 10 at half of them."""
    min_good_replies: int | None = None
    """Fewest good replies that change the model (default: half of the cohort)."""
    aggregation_rule: Literal["mean", "trimmed", "geometric-median", "multi-krum"] | None = None
    """How replies are put together; without it the weighted mean, or `trimmed` if
    `--trimmed-replies` is given. All but the mean withstand some bad clients, and need to see every
    update."""
    trimmed_replies: int | None = None
    """Bad clients to withstand (without it a third): `trimmed` leaves out so many of the largest
    and of the smallest values of every weight and counts the others alike, `multi-krum` leaves out
    so many replies that lie far from the others."""
    deadline_seconds: float | None = None
    """Longest wait for the replies of a cohort; with one worker, looked at between clients."""

    def __post_init__(self) -> None:
        rate = self.server_learning_rate
        require(rate is None or rate > 0, "--server-learning-rate must be positive")
        require(0 <= self.server_momentum < 1, "--server-momentum must lie in [0, 1)")
        require(0 <= self.beta_1 < 1 and 0 <= self.beta_2 < 1, "--beta-1, --beta-2: in [0, 1)")
        require(self.tau > 0, "--tau must be positive")
        require(self.mu >= 0, "--mu must not be negative")
        held = self.held_out_share
        require(held is None or 0 < held < 1, "--held-out-share must lie in (0, 1)")
        require(0 < self.own_share <= 1, "--own-share must lie in (0, 1]")
        require(self.lora_rank >= 1, "--lora-rank must be at least 1")
        require(
            self.trainable == "lora" or self.lora_rank == 8,
            f"--lora-rank is read by --trainable lora only, not by {self.trainable}: leave it out",
        )
        good, wait = self.min_good_replies, self.deadline_seconds
        require(good is None or good >= 1, "--min-good-replies must be at least 1")
        trim = self.trimmed_replies
        require(trim is None or trim >= 1, "--trimmed-replies must be at least 1; or leave it out")
        require(
            trim is None or self.rule in ("trimmed", "multi-krum"),
            f"--trimmed-replies is read by trimmed and multi-krum only, not by {self.rule}: "
            "leave it out",
        )
        require(wait is None or wait > 0, "--deadline-seconds must be positive")

    @property
    def rule(self) -> str:
        """How replies are put together, whatever was left out."""
        return self.aggregation_rule or ("trimmed" if self.trimmed_replies else "mean")


# Settings that only some partitions or algorithms read: changing one for another is refused.
