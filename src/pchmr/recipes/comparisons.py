"""The paper's tables as lists of runs: what is compared with what, at which size, in which order.

How runs are compared is in `docs/comparison.md`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict

from pchmr.config import Domain, PartitionOptions
from pchmr.recipes.cells import SCALES, Cell, ServerChanges, fixed
from pchmr.recipes.hostile import byzantine
from pchmr.recipes.rows import (
    DEALT,
    EVERYONE,
    LAST,
    LONGER,
    NATURAL,
    NATURAL_CLIENTS,
    PER_ROUND,
    SKEW,
    Rows,
)

ALPHAS = (100.0, 1.0, 0.1, 0.01)
FEWER_IMAGES = (1000, 4000)
MANY_TIMES = 4  # the images, in `convergence`
TO_PLATEAU = 16  # times the images, in `plateau`
SCALED = (10, 100, 1000)  # clients
CLAIMED = (10, 1000, 100)  # the same, those first that the paper's claims are about
WHOLE_B = 12_000  # ten images or more for each of 1000 clients
# Server options of each algorithm: two values of what it adds, so that all get the same grid.
SERVERS: dict[str, tuple[ServerChanges, ...]] = {
    "fedavg": ({}, {"server_learning_rate": 1.5}),
    "fedavgm": ({"server_momentum": 0.3}, {"server_momentum": 0.6}),
    "nesterov": ({"server_momentum": 0.3}, {"server_momentum": 0.6}),
    "fedprox": ({"mu": 0.01}, {"mu": 0.1}),
    "fedadam": ({"server_learning_rate": 1e-3}, {"server_learning_rate": 3e-3}),
    "fedyogi": ({"server_learning_rate": 1e-3}, {"server_learning_rate": 3e-3}),
    "fedadagrad": ({"server_learning_rate": 3e-3}, {"server_learning_rate": 1e-2}),
    "scaffold": ({}, {"server_learning_rate": 1.5}),
    "fednova": ({}, {"server_learning_rate": 1.5}),
}


def client_scale(rows: Rows) -> list[Cell]:
    """Centralized, then 10, 100 and 1000 clients, whose optimizers go on from the average or begin
    every round anew; with the first network also a control of as many steps. Targets are decided by
    the first network with optimizers that go on: every seed of that comes before the rest, and
    the rest of it before the second network.

    Last, momentum at the server for many clients, and sums alone in place of single updates; for
    the first seed centralized with twice the images, and random weights to start from.
    """
    deciding = [rows.before(), rows.centralized()]
    deciding += [rows.with_state(number) for number in SCALED]
    others = [rows.iid(number) for number in CLAIMED]
    if rows.model == rows.scale.models[0]:
        deciding.append(rows.rung("minibatch"))
        made = [*deciding, *(replace(cell, stage=1) for cell in others)]
    else:
        made = [replace(cell, stage=LAST - 1) for cell in deciding + others]
    return [*made, *(replace(cell, stage=LAST) for cell in _beside_scale(rows))]


def _beside_scale(rows: Rows) -> list[Cell]:
    """What no target of `client_scale` waits for."""
    made = []
    if rows.model == rows.scale.models[0]:
        made += [rows.with_momentum(100), rows.with_momentum(1000)]
        made += [rows.summed(10), rows.summed(100)]
    if rows.seed == 0:
        made.append(rows.longer(2).centralized(LONGER, "centralized, twice as long"))
    if rows.seed == 0 and rows.model == rows.scale.models[-1]:
        first = rows.first
        made += [
            first.centralized_from_scratch(),
            first.federated(
                f"{EVERYONE}-random-start", "10 of 10 clients, random start", 10, from_scratch=True
            ),
        ]
    return made


def ladder(rows: Rows) -> list[Cell]:
    """From centralized to federated training, one change a rung."""
    if rows.model != rows.scale.models[0]:
        return []
    made = [rows.before(), rows.centralized()]
    made += [rows.rung(name) for name in ("sequential", "minibatch", "redealt")]
    for number in (10, 100):
        made += [rows.with_state(number), rows.with_state(number, "keep"), rows.iid(number)]
    return made


def convergence(rows: Rows) -> list[Cell]:
    """Four times the images, in as many times the epochs or rounds: how far both still come.

    First what ten of ten clients cost there; then what may close the rest.
    """
    if rows.model != rows.scale.models[0]:
        return []
    long = rows.longer(MANY_TIMES)
    beside = [long.with_momentum(10), long.in_small_batches(10), long.with_momentum(100)]
    return [
        *(rows.before(), long.centralized(), long.iid(10), long.with_state(10)),
        *(replace(cell, stage=1) for cell in beside),
    ]


def plateau(rows: Rows) -> list[Cell]:
    """Sixteen times the images: what federation still costs near the end of training.

    Rates are chosen anew, by runs of a quarter. Last come 10 of 100 clients, at the rate of the
    shorter runs, and clients whose state is forgotten.
    """
    if rows.model != rows.scale.models[0]:
        return []
    long = rows.longer(TO_PLATEAU, tuned_anew=True)
    averaged = long.with_state(PER_ROUND, tuned_anew=True)
    others = [rows.longer(TO_PLATEAU).with_state(100), long.iid(PER_ROUND)]
    made = [replace(cell, stage=1) for cell in others]
    return [rows.before(), long.centralized(), averaged, *made]


def learning_curves(rows: Rows) -> list[Cell]:
    """What all of domain B teaches the start weights: a pass over keypoints, two over meshes."""
    rows = _whole_b(rows)
    return [rows.before(), rows.centralized()]


def learning_samples(rows: Rows) -> list[Cell]:
    """As many passes over fewer images, and from random weights."""
    rows = _whole_b(rows)
    fewer = [rows.centralized_on(number) for number in FEWER_IMAGES]
    return [*learning_curves(rows), *fewer, rows.centralized_from_scratch()]


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
    """Dirichlet partitions by action, with equal volumes, from nearly iid to one action each.

    The last, which the paper's claim is about, is run first.
    """
    first = [rows.before(), rows.centralized(), rows.iid(100)]
    dealt = [replace(_lda(rows, alpha), stage=int(alpha != ALPHAS[-1])) for alpha in ALPHAS]
    return _in_turn(rows, first + dealt)


def _in_turn(rows: Rows, made: list[Cell]) -> list[Cell]:
    """The second network waits for every seed of the first."""
    if rows.model == rows.scale.models[0]:
        return made
    return [replace(cell, stage=LAST - 1) for cell in made]


def of_alpha(alpha: float) -> str:
    """Id of the row of FedAvg on a Dirichlet partition."""
    return f"LDA-alpha-{alpha:g}-10-of-100-clients"


def _lda(rows: Rows, alpha: float) -> Cell:
    name = f"LDA alpha {alpha:g}, 10 of 100 clients"
    return rows.federated(of_alpha(alpha), name, 100, **_dealt(alpha))


class _Dealt(TypedDict):
    """Settings of a Dirichlet partition."""

    partition: Literal["dirichlet"]
    partition_options: PartitionOptions


def _dealt(alpha: float) -> _Dealt:
    options = PartitionOptions(alpha=alpha, equal_sizes=True)
    return {"partition": "dirichlet", "partition_options": options}


def natural(rows: Rows) -> list[Cell]:
    """Every scene a client, against as many clients with images dealt at random."""
    dealt = rows.federated(DEALT, f"iid, 10 of {NATURAL_CLIENTS} clients", NATURAL_CLIENTS)
    return _in_turn(rows, [rows.before(), rows.centralized(), dealt, _natural(rows)])


def _natural(rows: Rows) -> Cell:
    name = f"natural, 10 of {NATURAL_CLIENTS} scenes"
    return rows.federated(NATURAL, name, NATURAL_CLIENTS, partition="natural")


def optimizers(rows: Rows) -> list[Cell]:
    """Every algorithm on one skewed partition, each with the same number of settings to try.

    For the first seed also small local batches, which may close the gap to centralized training.
    """
    if rows.model != rows.scale.models[0]:
        return []
    made = [rows.before(), rows.centralized()]
    for name, servers in SERVERS.items():
        id_, label = f"{name}-LDA-alpha-{SKEW:g}", f"{name}, LDA alpha {SKEW:g}"
        skewed = _dealt(SKEW)
        made.append(rows.federated(id_, label, 100, algorithm=name, servers=servers, **skewed))
    if rows.seed == 0:
        made.append(rows.in_small_batches(10))
    return made


def finetune(rows: Rows) -> list[Cell]:
    """Fine-tuning from start weights: everything, the head alone, low-rank corrections alone.

    What trains a part alone chooses a learning rate of its own, in one place and on clients.
    """
    made = natural(rows)
    for what in ("head", "lora"):
        id_, only = f"{what}-trains-{DEALT}", {"trainable": what}
        name = f"{what} trains, iid, 10 of {NATURAL_CLIENTS} clients"
        cell = rows.federated(id_, name, NATURAL_CLIENTS, servers=(only,))
        like = rows.first.federated(id_, name, NATURAL_CLIENTS).base
        cell = replace(cell, tuned_on=fixed(like, 0.0, only))
        made += _in_turn(rows, [rows.centralized_part(what), cell])
    return made


ON_B = ("learning-curves", "learning-samples", "byzantine")
COMPARISONS: dict[str, Callable[[Rows], list[Cell]]] = {
    "learning-curves": learning_curves,
    "learning-samples": learning_samples,
    "client-scale": client_scale,
    "ladder": ladder,
    "convergence": convergence,
    "plateau": plateau,
    "lda": lda,
    "natural": natural,
    "optimizers": optimizers,
    "finetune": finetune,
    "byzantine": byzantine,
}


def domain_of(name: str) -> Domain:
    """Whom a comparison is made on: headset wearers, of whom the start weights know little."""
    return "B" if name in ON_B else "W"


def cells(
    name: str,
    scale: str,
    num_seeds: int,
    data: Path | None = None,
    domain: Domain | None = None,
) -> list[Cell]:
    """The cells of a comparison in the order of their worth: by stage, a seed after the other.

    Args:
        name: Of `COMPARISONS`.
        scale: Of `SCALES`.
        num_seeds: Seeds 0 to num_seeds - 1.
        data: Folder of people in place of rendered ones.
        domain: Of the rendered ones; without it, that of the comparison.
    """
    size = SCALES[scale]
    domain = domain or domain_of(name)
    size = replace(size, data=replace(size.data, data=data, domain=domain))
    rows = [Rows(size, model, seed) for seed in range(num_seeds) for model in size.models]
    made = [cell for row in rows for cell in COMPARISONS[name](row)]
    return sorted(made, key=lambda cell: cell.stage)
