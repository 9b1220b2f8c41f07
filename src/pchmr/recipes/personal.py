"""Ways to personalize a federated network, and how large their comparison is.

How they are compared is in `docs/comparison.md`; the arithmetic is in `federated/personal.py`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pchmr.config import DataOptions, OptimOptions
from pchmr.recipes.cells import SCALES, STARTS

CHOSEN_RATE = 7.5e-3
"""Of clients, as `client-scale` chose it on validation people for 100 of them."""
Part = Literal["all", "head", "scales", "low-rank"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to a network for every client.

    Attributes:
        label: For people.
        algorithm: Of the rounds; None where every client trains alone from the start weights.
        after: What each client trains alone after the rounds, if anything.
        newcomer: What a client that took no part trains, from the common network.
        local_epochs: Of a round; the rounds are as many fewer.
        batch_norm: What becomes of running statistics.
    """

    label: str
    algorithm: str | None
    after: Part | None = None
    newcomer: Part | None = None
    local_epochs: int = 1
    batch_norm: Literal["average", "local", "freeze"] = "average"

    @property
    def rounds(self) -> str | None:
        """Name of the rounds, which methods share; None for none."""
        return self.algorithm and self.algorithm + NORMS[self.batch_norm]

    @property
    def parts(self) -> set[Part]:
        """What is trained alone, by anybody."""
        return {part for part in (self.after, self.newcomer) if part is not None}


NORMS = {"average": "", "local": "-local-statistics", "freeze": "-frozen-statistics"}
GLOBAL = "global"
METHODS: dict[str, Method] = {
    GLOBAL: Method(label="one network for all", algorithm="fedavg"),
    "local-only": Method(label="every client alone", algorithm=None, after="all", newcomer="all"),
    "fine-tuned": Method(
        label="one network, fine-tuned", algorithm="fedavg", after="all", newcomer="all"
    ),
    "low-rank": Method(
        label="one network, local low-rank corrections",
        algorithm="fedavg",
        after="low-rank",
        newcomer="low-rank",
    ),
    "local-norm": Method(
        label="scales of normalization stay", algorithm="local-norm", newcomer="scales"
    ),
    "fedper": Method(label="heads stay (FedPer)", algorithm="fedper", newcomer="head"),
    "fedrep": Method(
        label="heads stay and train first (FedRep)",
        algorithm="fedrep",
        newcomer="head",
        local_epochs=2,
    ),
    "ditto": Method(
        label="own networks held to the common one (Ditto)", algorithm="ditto", newcomer="all"
    ),
    "apfl": Method(label="own networks mixed with it (APFL)", algorithm="apfl", newcomer="all"),
}

WITH_BATCH_NORM: dict[str, Method] = {
    GLOBAL: Method(label="running statistics averaged", algorithm="fedavg"),
    "frozen": Method(
        label="running statistics left alone", algorithm="fedavg", batch_norm="freeze"
    ),
    "fedbn": Method(
        label="statistics and scales stay (FedBN)",
        algorithm="fedavg",
        newcomer="scales",
        batch_norm="local",
    ),
}


@dataclass(frozen=True, kw_only=True)
class PersonalScale:
    """How large the comparison is.

    Attributes:
        models: Networks.
        data: People, dealt by scene.
        optim: How weights are fitted in rounds.
        num_clients: Scenes in all.
        num_newcomers: Those that take no part in rounds and are scored.
        num_choosing: Those that take no part either and choose rates.
        per_round: Clients of a round.
        num_seen: Images of all rounds.
        held_share: Share of a client's images that it is scored on.
        alone_epochs: Passes of what a client trains alone.
        alone_rates: Learning rates to choose from for that.
        num_others: Images of other people for what is forgotten.
        checkpoint: Start weights of networks that none are shipped for.
        edition: Shipped start weights of the others.
    """

    models: tuple[str, ...] = ("fastmetro_xs",)
    data: DataOptions = SCALES["cpu"].data
    optim: OptimOptions = field(
        default_factory=lambda: replace(SCALES["cpu"].optim, learning_rate=CHOSEN_RATE)
    )
    num_clients: int = 60
    num_newcomers: int = 8
    num_choosing: int = 8
    per_round: int = 10
    num_seen: int = 8000
    held_share: float = 0.25
    alone_epochs: int = 4
    alone_rates: tuple[float, ...] = (1e-3, 3e-3, 7.5e-3)
    num_others: int = 40
    checkpoint: Path | None = None
    edition: int = STARTS

    @property
    def num_seated(self) -> int:
        """Clients that take part."""
        return self.num_clients - self.num_newcomers - self.num_choosing


PERSONAL = PersonalScale()
STUDIES: dict[str, tuple[PersonalScale, dict[str, Method]]] = {
    "pfl": (PERSONAL, METHODS),
    "batch-norm": (
        PersonalScale(
            models=("fastmetro_xs_bn",), checkpoint=Path("runs/start-xs-bn/model.safetensors")
        ),
        WITH_BATCH_NORM,
    ),
}
"""Size and methods by name of the benchmark."""
