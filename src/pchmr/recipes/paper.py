"""The paper's tables on its own data: Human3.6M by number of clients and skew, 3DPW by scene.

Settings are the published ones of FastMETRO and TORE. What the paper leaves open is chosen so that
every row sees as many images as the centralized one: rounds, and nothing else. For holders of the
data; who has none compares at the scales of `cells.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pchmr.config import (
    DataOptions,
    EvaluateConfig,
    FederateConfig,
    ModelOptions,
    PartitionOptions,
    ServerOptions,
    TrainConfig,
)
from pchmr.recipes import RECIPES
from pchmr.recipes.cells import Cell
from pchmr.recipes.comparisons import ALPHAS, of_alpha
from pchmr.recipes.rows import BEFORE, CENTRALIZED, PER_ROUND, of_clients

MODELS = {"fastmetro_s": "paper-fastmetro", "tore_s": "paper-tore"}
"""Networks of the paper, and the recipe that trains each on Human3.6M."""
FINETUNE_EPOCHS, FINETUNE_RATE = 8, 2e-5
LDA_CLIENTS = 100
IMAGENET = "resnet50.pth"
NATURAL, DEALT = "3dpw-natural", "3dpw-iid"
PAPER = {
    ("fastmetro_s", CENTRALIZED): "57.98 / 40.62",
    ("fastmetro_s", of_clients(10)): "56.85 / 40.52",
    ("fastmetro_s", of_clients(100)): "59.31 / 41.48",
    ("fastmetro_s", of_clients(1000)): "60.82 / 44.53",
    ("tore_s", CENTRALIZED): "63.88 / 41.99",
    ("tore_s", of_clients(10)): "61.27 / 41.60",
    ("tore_s", of_clients(100)): "62.92 / 43.11",
    ("tore_s", of_clients(1000)): "66.04 / 44.04",
    ("fastmetro_s", "3dpw-centralized"): "84.92 / 54.69 / 97.60",
    ("fastmetro_s", DEALT): "84.66 / 54.78 / 97.42",
    ("fastmetro_s", NATURAL): "86.83 / 55.61 / 99.66",
    ("tore_s", "3dpw-centralized"): "87.97 / 55.35 / 101.88",
    ("tore_s", DEALT): "87.55 / 54.08 / 101.86",
    ("tore_s", NATURAL): "88.00 / 55.07 / 102.50",
}
"""MPJPE / PA-MPJPE / MPVPE that the paper printed, mm."""


@dataclass(frozen=True, kw_only=True)
class PaperRuns:
    """Makes the cells of one network and seed.

    Attributes:
        model: Name of the network.
        seed: Of the runs.
        data: Imported folder.
        num_samples: Its training people.
        num_scenes: Its training scenes.
        body: SMPL's files; None is the embedded body.
        start: Folder of start weights; None starts from random ones.
    """

    model: str
    seed: int
    data: Path
    num_samples: int
    num_scenes: int
    body: Path | None
    start: Path | None

    @property
    def recipe(self) -> TrainConfig:
        """The published training on this data."""
        found = RECIPES[MODELS[self.model]]
        assert isinstance(found, TrainConfig)
        data = DataOptions(data=self.data, num_samples=self.num_samples)
        return replace(found, seed=self.seed, data_options=data, model_options=self._from_imagenet)

    @property
    def _from_imagenet(self) -> ModelOptions:
        weights = self.start / IMAGENET if self.start else None
        return ModelOptions(
            model=self.model, from_scratch=True, backbone_weights=weights, body=self.body
        )

    def finetuned(self) -> TrainConfig:
        """The published fine-tuning, from a checkpoint of the training on Human3.6M."""
        checkpoint = self.start / f"{self.model}.safetensors" if self.start else None
        start = ModelOptions(
            model=self.model,
            checkpoint=checkpoint,
            from_scratch=checkpoint is None,
            body=self.body,
        )
        optim = replace(self.recipe.optim_options, learning_rate=FINETUNE_RATE)
        return replace(
            self.recipe,
            num_epochs=FINETUNE_EPOCHS,
            schedule="constant",
            model_options=start,
            optim_options=optim,
        )

    def cell(
        self, id_: str, name: str, base: TrainConfig | FederateConfig | EvaluateConfig
    ) -> Cell:
        """A row with the paper's figure; nothing of it is left to choose."""
        rate = () if isinstance(base, EvaluateConfig) else (base.optim_options.learning_rate,)
        paper = PAPER.get((self.model, id_))
        return Cell(id=id_, name=name, base=base, tuned_on=base, rates=rate, paper=paper)

    def before(self, run: TrainConfig) -> Cell:
        """The start weights as they are."""
        base = EvaluateConfig(data_options=run.data_options, model_options=run.model_options)
        return self.cell(BEFORE, "before", base)

    def rounds(self, run: TrainConfig, num_clients: int, **changes: Any) -> FederateConfig:
        """One local epoch a round, as many rounds as show the images of the centralized run."""
        per_round = min(PER_ROUND, num_clients)
        return FederateConfig(
            seed=self.seed,
            num_clients=num_clients,
            clients_per_round=per_round,
            num_rounds=max(1, run.num_epochs * num_clients // per_round),
            data_options=run.data_options,
            model_options=run.model_options,
            optim_options=run.optim_options,
            server_options=ServerOptions(
                round_schedule="step" if run.schedule == "step" else "constant"
            ),
            **changes,
        )


def _client_scale(runs: PaperRuns) -> list[Cell]:
    base = runs.recipe
    made = [runs.before(base), runs.cell(CENTRALIZED, "centralized", base)]
    for number in (10, 100, 1000):
        if number <= runs.num_samples:
            name = f"{PER_ROUND} of {number} clients"
            made.append(runs.cell(of_clients(number), name, runs.rounds(base, number)))
    return made


def _lda(runs: PaperRuns) -> list[Cell]:
    base, number = runs.recipe, min(LDA_CLIENTS, runs.num_samples)
    made = [runs.before(base), runs.cell(CENTRALIZED, "centralized", base)]
    for alpha in ALPHAS:
        options = PartitionOptions(alpha=alpha, equal_sizes=True)
        dealt = runs.rounds(base, number, partition="dirichlet", partition_options=options)
        name = f"LDA alpha {alpha:g}, {PER_ROUND} of {number} clients"
        made.append(runs.cell(of_alpha(alpha), name, dealt))
    return made


def _finetune(runs: PaperRuns) -> list[Cell]:
    base, scenes = runs.finetuned(), runs.num_scenes
    per_round = min(PER_ROUND, scenes)
    natural = runs.rounds(base, scenes, partition="natural")
    return [
        runs.before(base),
        runs.cell("3dpw-centralized", "centralized", base),
        runs.cell(DEALT, f"iid, {per_round} of {scenes} clients", runs.rounds(base, scenes)),
        runs.cell(NATURAL, f"natural, {per_round} of {scenes} scenes", natural),
    ]


PAPER_TABLES: dict[str, Callable[[PaperRuns], list[Cell]]] = {
    "client-scale": _client_scale,
    "lda": _lda,
    "natural": _finetune,
    "finetune": _finetune,
}


def paper_cells(name: str, num_seeds: int, **about: Any) -> list[Cell]:
    """The cells of one of the paper's tables, one seed of both networks first.

    Args:
        name: Of `PAPER_TABLES`.
        num_seeds: Seeds 0 to num_seeds - 1.
        about: What `PaperRuns` is told of data, body and start weights.
    """
    rows = [
        PaperRuns(model=model, seed=seed, **about) for seed in range(num_seeds) for model in MODELS
    ]
    return [cell for row in rows for cell in PAPER_TABLES[name](row)]


def num_images(cell: Cell, num_samples: int) -> int:
    """Images that a run trains on."""
    run = cell.base
    if isinstance(run, TrainConfig):
        return run.num_epochs * num_samples
    if isinstance(run, FederateConfig):
        return run.num_rounds * run.clients_per_round * num_samples // run.num_clients
    return 0
