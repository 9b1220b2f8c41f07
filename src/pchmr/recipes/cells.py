"""A run to compare, and the cell of a table that it fills; knows no comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pchmr.config import (
    DataOptions,
    EvaluateConfig,
    FederateConfig,
    ModelOptions,
    OptimOptions,
    TrainConfig,
)

Run = TrainConfig | FederateConfig | EvaluateConfig
ServerChanges = Mapping[str, Any]
"""Server options by name, as a run changes them."""
STARTS = 2
"""Edition of the shipped start weights that comparisons stand on: later ones would ask for all rows
anew."""


@dataclass(frozen=True, kw_only=True)
class AttackedRun(FederateConfig):
    """Rounds in which some clients mean harm; only benchmarks know of it.

    Attributes:
        attack: One of `ATTACKS` or `SWEPT`.
        num_bad: Clients that attack, in every round: those with the lowest ids.
        gate: Whether replies are judged before the sum.
    """

    attack: str
    num_bad: int
    gate: bool = True


Rung = Literal["sequential", "minibatch", "redealt"]
"""What a control shares with federated training, see `bench.ladder`."""


@dataclass(frozen=True, kw_only=True)
class LadderRun(FederateConfig):
    """A control that takes as many steps as a federated run, on the images of all its clients.

    Attributes:
        rung: What it shares with federated training, see `bench.ladder`.
    """

    rung: Rung


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the comparisons of paradigms are.

    Attributes:
        models: Networks; learning rates are chosen with the first and used for all.
        data: People, the same for every seed; some comparisons are made on those of domain B.
        optim: How weights are fitted, apart from the learning rate.
        num_seen: Images that every run trains on, over all its epochs or rounds.
        keypoint_epochs: Epochs of the keypoint head alone before them, in centralized runs.
        learning_rates: What the client's, or the centralized, learning rate is chosen from.
        checkpoints: Start weights of models that none are shipped for.
    """

    models: tuple[str, ...]
    data: DataOptions
    optim: OptimOptions
    num_seen: int
    keypoint_epochs: int = 0
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    checkpoints: dict[str, Path] = field(default_factory=dict)

    def start(self, model: str) -> ModelOptions:
        """Start weights of a model."""
        checkpoint = self.checkpoints.get(model)
        return ModelOptions(
            model=model, checkpoint=checkpoint, edition=None if checkpoint else STARTS
        )


SCALES = {
    "cpu": Scale(
        models=("fastmetro_xs", "tore_xs"),
        data=DataOptions(domain="W", num_samples=2000, num_test_samples=400, data_seed=0),
        optim=OptimOptions(optimizer="muon", batch_size=8, clip=1.0),
        num_seen=8000,
        learning_rates=(5e-4, 1.5e-3, 3e-3),
    ),
    "gpu": Scale(
        models=("fastmetro_s", "tore_s"),
        data=DataOptions(
            domain="W", num_samples=20_000, num_test_samples=2000, data_seed=0, image_size=224
        ),
        optim=OptimOptions(batch_size=16, clip=1.0, bf16=True),
        num_seen=200_000,
        checkpoints={
            name: Path(f"runs/start-{name.replace('_', '-')}/model.safetensors")
            for name in ("fastmetro_s", "tore_s")
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of a comparison, for one network and seed.

    What it leaves open is chosen by short runs of the first network with seed 0, scored on
    validation people: the learning rate by those of `tuned_on`, then the server options by its own.

    Attributes:
        id: Of the row: it is found by it.
        name: Of the row, for people.
        base: The run, but for what is chosen.
        tuned_on: The run that decides the learning rate.
        like: The run that decides the server options; without it, `base` has none to choose.
        rates: Learning rates to choose from; none for a run that trains nothing.
        servers: Server options to choose from, each the changes against `base`.
        paper: MPJPE / PA-MPJPE that the paper printed for this row, mm on its own data.
        contest: Rows that compete for one target share it.
        stage: Cells of a stage wait for those of earlier ones, of every seed.
    """

    id: str
    name: str
    base: Run
    tuned_on: Run
    rates: tuple[float, ...] = ()
    servers: tuple[ServerChanges, ...] = ({},)
    paper: str | None = None
    like: Run | None = None
    contest: str | None = None
    stage: int = 0

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.base.model_options.model


def fixed(run: Run, rate: float, server: ServerChanges) -> Run:
    """The run with a learning rate and changed server options."""
    if isinstance(run, EvaluateConfig):
        return run
    run = replace(run, optim_options=replace(run.optim_options, learning_rate=rate))
    if isinstance(run, TrainConfig):
        return run
    return replace(run, server_options=replace(run.server_options, **dict(server)))
