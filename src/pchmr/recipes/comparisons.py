"""The paper's tables as lists of runs: what is compared with what, at which size, in which order.

How runs are compared is in `docs/comparison.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pchmr.config import (
    DataOptions,
    EvaluateConfig,
    FederateConfig,
    ModelOptions,
    OptimOptions,
    PartitionOptions,
    ServerOptions,
    TrainConfig,
)

Run = TrainConfig | FederateConfig | EvaluateConfig


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the comparisons of paradigms are.

    Attributes:
        models: Networks; learning rates are chosen with the first and used for all.
        data: People of domain B; every seed sees the same.
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


SCALES = {
    "cpu": Scale(
        models=("fastmetro_xs", "tore_xs"),
        data=DataOptions(domain="B", num_samples=2000, num_test_samples=400, data_seed=0),
        optim=OptimOptions(optimizer="muon", batch_size=8, clip=1.0),
        num_seen=8000,
        learning_rates=(5e-4, 1.5e-3, 3e-3),
    ),
    "gpu": Scale(
        models=("fastmetro_s", "tore_s"),
        data=DataOptions(
            domain="B", num_samples=20_000, num_test_samples=2000, data_seed=0, image_size=224
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
        name: Of the row.
        base: The run, but for what is chosen.
        tuned_on: The run that decides the learning rate.
        rates: Learning rates to choose from; none for a run that trains nothing.
        servers: Server options to choose from, each the changes against `base`.
        paper: MPJPE / PA-MPJPE that the paper printed for this row, mm on its own data.
    """

    name: str
    base: Run
    tuned_on: Run
    rates: tuple[float, ...] = ()
    servers: tuple[dict[str, Any], ...] = ({},)
    paper: str | None = None

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.base.model_options.model


def fixed(run: Run, rate: float, server: dict[str, Any]) -> Run:
    """The run with a learning rate and changed server options."""
    if isinstance(run, EvaluateConfig):
        return run
    run = replace(run, optim_options=replace(run.optim_options, learning_rate=rate))
    if isinstance(run, TrainConfig):
        return run
    return replace(run, server_options=replace(run.server_options, **server))


@dataclass(frozen=True)
class Rows:
    """Makes the cells of one network and seed."""

    scale: Scale
    model: str
    seed: int

    @property
    def first(self) -> "Rows":
        """The network and seed that settings are chosen with."""
        return replace(self, model=self.scale.models[0], seed=0)

    def _common(self, from_scratch: bool) -> dict[str, Any]:
        checkpoint = None if from_scratch else self.scale.checkpoints.get(self.model)
        start = ModelOptions(model=self.model, from_scratch=from_scratch, checkpoint=checkpoint)
        return {"seed": self.seed, "data_options": self.scale.data, "model_options": start}

    def _cell(self, name: str, base: Run, tuned_on: Run, **more: Any) -> Cell:
        paper = PAPER.get((self.model.split("_")[0], name))
        rates = self.scale.learning_rates
        return Cell(name=name, base=base, tuned_on=tuned_on, rates=rates, paper=paper, **more)

    def before(self) -> Cell:
        """The start weights as they are."""
        run = EvaluateConfig(**replace(self, seed=0)._common(from_scratch=False))
        return Cell(name="before", base=run, tuned_on=run)

    def centralized(self, name: str = "centralized", *, from_scratch: bool = False) -> Cell:
        """Every image in one place; the learning rate is chosen from the start weights."""
        return self._cell(name, self._central(from_scratch), self.first._central(False))

    def centralized_on(self, num_samples: int) -> Cell:
        """As many epochs on fewer images."""
        data = replace(self.scale.data, num_samples=num_samples)
        epochs = self.scale.num_seen // self.scale.data.num_samples
        scale = replace(self.scale, data=data, num_seen=epochs * num_samples)
        few = replace(self, scale=scale)
        name = f"centralized, {num_samples} images"
        return self._cell(name, few._central(False), self.first._central(False))

    def longer(self) -> Cell:
        """Centralized with twice the images, at the rate of the shorter run."""
        long = replace(self, scale=replace(self.scale, num_seen=2 * self.scale.num_seen))
        return self._cell(LONGER, long._central(False), self.first._central(False))

    def _central(self, from_scratch: bool) -> TrainConfig:
        first = self.scale.keypoint_epochs
        return TrainConfig(
            num_epochs=first + self.scale.num_seen // self.scale.data.num_samples,
            keypoint_epochs=first,
            schedule="cosine",
            optim_options=self.scale.optim,
            **self._common(from_scratch),
        )

    def federated(
        self,
        name: str,
        num_clients: int,
        *,
        from_scratch: bool = False,
        servers: tuple[dict[str, Any], ...] = ({},),
        **changes: Any,
    ) -> Cell:
        """Ten clients a round; the learning rate is that of FedAvg on iid clients (`TUNED_ON`).

        Args:
            name: Of the row.
            num_clients: In total.
            from_scratch: Random weights in place of the start weights.
            servers: Server options to choose from.
            changes: Other settings of the run.
        """
        base = self._rounds(num_clients, from_scratch, **changes)
        like = TUNED_ON.get(num_clients, num_clients)
        return self._cell(name, base, self.first._rounds(like, False), servers=servers)

    def with_momentum(self, num_clients: int) -> Cell:
        """FedAvg with momentum at the server, at the client's learning rate of FedAvg."""
        name = f"10 of {num_clients} clients, fedavgm"
        return self.federated(name, num_clients, algorithm="fedavgm", servers=MOMENTA)

    def in_small_batches(self, num_clients: int) -> Cell:
        """FedAvg in local batches of `SMALL_BATCH`, which choose a learning rate of their own."""
        optim = replace(self.scale.optim, batch_size=SMALL_BATCH)
        small = replace(self, scale=replace(self.scale, optim=optim))
        name = f"10 of {num_clients} clients, fedavg, local batch {SMALL_BATCH}"
        return small.federated(name, num_clients)

    def _rounds(self, num_clients: int, from_scratch: bool, **changes: Any) -> FederateConfig:
        """As many rounds of one local epoch as the images allow."""
        seen, held = self.scale.num_seen, self.scale.data.num_samples
        return FederateConfig(
            num_clients=num_clients,
            clients_per_round=PER_ROUND,
            num_rounds=max(1, seen * num_clients // (held * PER_ROUND)),
            optim_options=self.scale.optim,
            server_options=ServerOptions(round_schedule="cosine"),
            **self._common(from_scratch),
            **changes,
        )


PER_ROUND = 10
SMALL_BATCH = 2
MOMENTA = ({"server_momentum": 0.5}, {"server_momentum": 0.7})
LONGER = "centralized, twice as long"
ALPHAS = (100.0, 1.0, 0.1, 0.01)
SKEW = 0.1  # alpha of the partition on which algorithms are compared
FEWER_IMAGES = (1000, 4000)
WHOLE_B = 12_000  # ten images or more for each of 1000 clients
NATURAL_CLIENTS = 60  # scenes among the training people of B
TUNED_ON = {NATURAL_CLIENTS: 100}  # clients whose learning rate others take over
# (family of the network, row) -> MPJPE / PA-MPJPE in mm on Human3.6M or, natural, on 3DPW.
PAPER = {
    ("fastmetro", "centralized"): "57.98 / 40.62",
    ("fastmetro", "10 of 10 clients"): "56.85 / 40.52",
    ("fastmetro", "10 of 100 clients"): "59.31 / 41.48",
    ("fastmetro", "10 of 1000 clients"): "60.82 / 44.53",
    ("fastmetro", "natural, 10 of 60 scenes"): "86.83 / 55.61",
    ("tore", "centralized"): "63.88 / 41.99",
    ("tore", "10 of 10 clients"): "61.27 / 41.60",
    ("tore", "10 of 100 clients"): "62.92 / 43.11",
    ("tore", "10 of 1000 clients"): "66.04 / 44.04",
    ("tore", "natural, 10 of 60 scenes"): "88.00 / 55.07",
}
# Server options of each algorithm: two values of what it adds, so that all get the same grid.
SERVERS: dict[str, tuple[dict[str, Any], ...]] = {
    "fedavg": ({}, {"server_learning_rate": 1.5}),
    "fedavgm": ({"server_momentum": 0.3}, {"server_momentum": 0.6}),
    "fedprox": ({"mu": 0.01}, {"mu": 0.1}),
    "fedadam": ({"server_learning_rate": 1e-3}, {"server_learning_rate": 3e-3}),
    "fedyogi": ({"server_learning_rate": 1e-3}, {"server_learning_rate": 3e-3}),
    "fedadagrad": ({"server_learning_rate": 3e-3}, {"server_learning_rate": 1e-2}),
    "scaffold": ({}, {"server_learning_rate": 1.5}),
    "fednova": ({}, {"server_learning_rate": 1.5}),
}


def client_scale(rows: Rows) -> list[Cell]:
    """Centralized, then 10, 100 and 1000 clients.

    For the first seed also centralized with twice the images; last, for the first network,
    random weights to start from.
    """
    made = [rows.before(), rows.centralized()]
    made += [rows.federated(f"10 of {n} clients", n) for n in (10, 100, 1000)]
    made += [rows.longer()] if rows.seed == 0 else []
    if rows.seed == 0 and rows.model == rows.scale.models[-1]:
        first = rows.first
        made += [
            first.centralized("centralized, random start", from_scratch=True),
            first.federated("10 of 10 clients, random start", 10, from_scratch=True),
        ]
    return made


def learning_curves(rows: Rows) -> list[Cell]:
    """What all of domain B teaches the start weights: a pass over keypoints, two over meshes."""
    rows = _whole_b(rows)
    return [rows.before(), rows.centralized()]


def learning_samples(rows: Rows) -> list[Cell]:
    """As many passes over fewer images, and from random weights."""
    rows = _whole_b(rows)
    fewer = [rows.centralized_on(number) for number in FEWER_IMAGES]
    scratch = rows.centralized("centralized, random start", from_scratch=True)
    return [*learning_curves(rows), *fewer, scratch]


def _whole_b(rows: Rows) -> Rows:
    """Fitted like the start weights: the keypoint head first, then everything."""
    size = replace(
        rows.scale,
        data=replace(rows.scale.data, num_samples=WHOLE_B),
        optim=replace(rows.scale.optim, optimizer="muon", batch_size=32),
        num_seen=2 * WHOLE_B,
        keypoint_epochs=1,
        learning_rates=(1e-3,),
    )
    return replace(rows, scale=size)


def lda(rows: Rows) -> list[Cell]:
    """Dirichlet partitions by action, with equal volumes, from nearly iid to one action each."""
    first = [rows.before(), rows.centralized(), rows.federated("10 of 100 clients", 100)]
    return first + [_lda(rows, alpha) for alpha in ALPHAS]


def _lda(rows: Rows, alpha: float, name: str | None = None, **changes: Any) -> Cell:
    deal = PartitionOptions(alpha=alpha, equal_sizes=True)
    label = name or f"LDA alpha {alpha:g}, 10 of 100 clients"
    return rows.federated(label, 100, partition="dirichlet", partition_options=deal, **changes)


def natural(rows: Rows) -> list[Cell]:
    """Every scene a client, against as many clients with people dealt at random."""
    return [
        rows.before(),
        rows.centralized(),
        rows.federated(f"iid, 10 of {NATURAL_CLIENTS} clients", NATURAL_CLIENTS),
        _natural(rows),
    ]


def _natural(rows: Rows) -> Cell:
    name = f"natural, 10 of {NATURAL_CLIENTS} scenes"
    return rows.federated(name, NATURAL_CLIENTS, partition="natural")


def optimizers(rows: Rows) -> list[Cell]:
    """Every algorithm on one skewed partition, each with the same number of settings to try.

    For the first seed also what may close the gap to centralized training on iid clients: momentum
    at the server, and small local batches.
    """
    if rows.model != rows.scale.models[0]:
        return []
    made = [rows.before(), rows.centralized()]
    for name, servers in SERVERS.items():
        made.append(
            _lda(rows, SKEW, f"{name}, LDA alpha {SKEW:g}", algorithm=name, servers=servers)
        )
    if rows.seed == 0:
        made += [rows.with_momentum(1000), rows.in_small_batches(10), rows.with_momentum(100)]
    return made


def finetune(rows: Rows) -> list[Cell]:
    """Fine-tuning from start weights: everything, the head alone, low-rank corrections alone.

    What trains a part alone chooses a learning rate of its own.
    """
    made = natural(rows)
    for what in ("head", "lora"):
        name, only = f"{what} trains, iid, 10 of {NATURAL_CLIENTS} clients", {"trainable": what}
        cell = rows.federated(name, NATURAL_CLIENTS, servers=(only,))
        like = rows.first.federated(name, NATURAL_CLIENTS).base
        made.append(replace(cell, tuned_on=fixed(like, 0.0, only)))
    return made


COMPARISONS: dict[str, Callable[[Rows], list[Cell]]] = {
    "learning-curves": learning_curves,
    "learning-samples": learning_samples,
    "client-scale": client_scale,
    "lda": lda,
    "natural": natural,
    "optimizers": optimizers,
    "finetune": finetune,
}


def cells(name: str, scale: str, num_seeds: int, data: Path | None = None) -> list[Cell]:
    """The cells of a comparison in the order of their worth: one seed of everything first.

    Args:
        name: Of `COMPARISONS`.
        scale: Of `SCALES`.
        num_seeds: Seeds 0 to num_seeds - 1.
        data: Folder of people in place of rendered ones.
    """
    size = SCALES[scale]
    size = replace(size, data=replace(size.data, data=data))
    rows = [Rows(size, model, seed) for seed in range(num_seeds) for model in size.models]
    return [cell for row in rows for cell in COMPARISONS[name](row)]
