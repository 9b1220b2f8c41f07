"""Configs of the verbs that make a model a person's own, and of the loop around them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pchmr.config.annotation import ANNOTATE_MODES
from pchmr.config.errors import require
from pchmr.config.options import ModelOptions
from pchmr.config.verbs import Device, require_person

Trainable = Literal["all", "head", "lora", "norms"]
Setting = Literal["auto", "none", "A", "B", "V"]


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """How a model is made a person's own."""

    trainable: Trainable = "all"
    """What moves: every weight, all but the backbone, low-rank corrections, or norm layers."""
    optimizer: Literal["adamw", "muon"] = "muon"
    """`muon` orthogonalizes the steps of matrices: fewer pictures for the same gain."""
    learning_rate: float = 5e-4
    """Learning rate at the start; it falls to nothing along a cosine."""
    num_epochs: int = 8
    """Most passes over the labels; the pass that fits the held-out labels best is kept."""
    patience: int = 4
    """Passes without a better one after which it ends."""
    batch_size: int = 16
    """People per step."""
    rehearsal_share: float = 0.3
    """Share of rendered people of the source domain in every pass, against forgetting."""
    num_rehearsed: int = 768
    """How many of these people are rendered, and a quarter as many that are watched, and again that
    forgetting is measured on; once, later runs find them."""
    most_forgotten: float = 0.02
    """Largest rise of the error on watched people of the source domain, as a share; what learned
    more is taken back towards the weights where it began."""
    setting: Setting = "auto"
    """Setting of the pictures, whose people are rendered with exact labels and teach along: V for
    headset wearers. auto: that of a rendered root, none for photos and videos."""
    num_others: int | None = None
    """How many of its people are rendered, once; without a number 400 where the shipped weights
    know the setting, else 1600."""
    setting_epochs: int = 4
    """Passes over these people before any picture of the user counts; 0 begins at the shared
    model. Shipped weights that know the setting had their passes already."""
    setting_share: float = 0.3
    """Their share in the passes over the labels."""
    pull: float = 1.0
    """Pull to the shared weights (L2-SP), decoupled from the gradient as weight decay is."""
    use_review: bool = False
    """Labels to look at count too, with a lower weight; rejected ones never do. Rendered users,
    whom nobody can ask, always count them."""
    min_labels: int = 20
    """Fewest usable labels; with fewer the shared model stays as it is."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "--learning-rate must be positive")
        require(self.num_epochs >= 1, "--num-epochs must be at least 1")
        require(self.patience >= 1, "--patience must be at least 1")
        require(self.batch_size >= 1, "--batch-size must be at least 1")
        shares = (self.rehearsal_share, self.setting_share)
        require(
            min(shares) >= 0 and sum(shares) < 1,
            "--rehearsal-share and --setting-share must not be negative, and leave room for labels "
            "below 1",
        )
        require(self.setting_epochs >= 0, "--setting-epochs must not be negative")
        require(self.most_forgotten >= 0, "--most-forgotten must not be negative")
        require(self.num_rehearsed >= 4, "--num-rehearsed must be at least 4")
        require(self.num_others is None or self.num_others >= 1, "--num-others must be at least 1")
        require(self.pull >= 0, "--pull must not be negative")
        require(self.min_labels >= 2, "--min-labels must be at least 2")


@dataclass(frozen=True, kw_only=True)
class LabelingOptions:
    """How a person's own pictures are labeled."""

    mode: str = "auto"
    """Way to annotate, see `pchmr annotate`."""
    bbox: str | None = None
    """Box of the person, `x,y,w,h` in pixels: whose model it becomes, where there are several."""
    person: str | None = None
    """Who of several, see `pchmr annotate`: largest, or a number. Without it and without a box,
    pictures of several people are refused."""
    keypoint_prior: str | None = None
    """Keypoint model, see `pchmr annotate`; without it, embedded for rendered users, and for photos
    blazepose where it was fetched (its labels are for review: `--use-review`)."""
    keypoint_weights: Path | None = None
    """Its weights, a local file or folder."""
    accept_mm: float = 60.0
    """Predicted error in mm below which a label is accepted."""
    reject_mm: float = 150.0
    """Predicted error in mm above which a label is rejected."""

    def __post_init__(self) -> None:
        require(
            self.mode in ANNOTATE_MODES,
            f"unknown mode {self.mode}; known: {', '.join(ANNOTATE_MODES)}",
        )
        if self.person is not None:
            require_person(self.person)
            require(self.person != "all", "--person all: a model becomes one person's; name one")
            require(self.bbox is None, "--person and --bbox: leave one of them out")
        require(
            0 < self.accept_mm <= self.reject_mm,
            "--accept-mm must be positive and at most --reject-mm",
        )


@dataclass(frozen=True, kw_only=True)
class PersonalizeConfig:
    """Make a model a person's own: label their pictures here, learn from them, score both."""

    images: Path
    """Photos, a video, or what `pchmr data synth` wrote: there each subject is one user."""
    labels: Path | None = None
    """Labels of `pchmr annotate` for these images; without it, they are made."""
    output: Path = Path("runs/personal")
    """Private folder for labels, the personal model, pictures and summary.json."""
    seed: int = 0
    """Seed of order, augmentation and rehearsal."""
    num_users: int | None = None
    """First users of a rendered root; without it, all."""
    who: str = "the owner of this device"
    """Whose pictures these are, for consent.json."""
    keep_days: float | None = None
    """Days after which `pchmr labels` deletes labels and personal model; without it, never."""
    device: Device = "auto"
    """Where to compute."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""
    fitting_options: FittingOptions = field(default_factory=FittingOptions)
    """How it learns."""
    labeling_options: LabelingOptions = field(default_factory=LabelingOptions)
    """How pictures are labeled."""

    def __post_init__(self) -> None:
        ok = self.num_users is None or self.num_users >= 1
        require(ok, "--num-users must be at least 1")
        ok = self.keep_days is None or self.keep_days >= 0
        require(ok, "--keep-days must not be negative")


LABEL_KINDS = ("deposer", "true", "smplifyx")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Label on each client, federate on these labels, make the model that comes back personal."""

    images: Path
    """Root of `pchmr data synth --domain V`: each subject is a client with unlabeled images."""
    output: Path = Path("runs/loop")
    """Private folder for labels, models and loop.json."""
    seed: int = 0
    """Seed of everything drawn."""
    num_clients: int = 5
    """First subjects that take part; at least four, and five for secure sums."""
    num_rounds: int = 5
    """Rounds of federated training."""
    label_kinds: str = ",".join(LABEL_KINDS)
    """Labels to learn from, with commas: deposer, true (the upper bound), smplifyx."""
    device: Device = "auto"
    """Where to compute."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network."""
    fitting_options: FittingOptions = field(default_factory=FittingOptions)
    """How a client's personal model learns."""
    labeling_options: LabelingOptions = field(default_factory=LabelingOptions)
    """How pictures are labeled."""

    def __post_init__(self) -> None:
        require(self.num_clients >= 4, "--num-clients must be at least 4")
        require(self.num_rounds >= 1, "--num-rounds must be at least 1")
        unknown = [kind for kind in self.kinds if kind not in LABEL_KINDS]
        require(
            bool(self.kinds) and not unknown,
            f"--label-kinds {self.label_kinds}: give some of {', '.join(LABEL_KINDS)}",
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of labels, each once."""
        return tuple(dict.fromkeys(filter(None, map(str.strip, self.label_kinds.split(",")))))
