"""What a comparison will still cost, in CPU hours, said before it starts.

Counts images: of a run, how many it trains on; of a trial, its share. What an image costs is read
off the rows of the same network, or else what an XS network took. Evaluation is left out.
"""

import statistics
from collections.abc import Iterable, Mapping

from pchmr.bench.cell import shortened
from pchmr.config import FederateConfig, TrainConfig
from pchmr.recipes.cells import Run
from pchmr.results import ResultRow

SECONDS_PER_IMAGE = 0.036
"""CPU seconds of FastMETRO-XS for an image, forward and backward (`results/client-scale.jsonl`)."""


def images_of(run: Run, *, is_trial: bool = False) -> float:
    """Images that a run trains on; in each round those of a cohort of middling clients."""
    done = shortened(run) if is_trial else run
    held = done.data_options.num_samples
    if isinstance(done, TrainConfig):
        return float(done.num_epochs * held)
    if isinstance(done, FederateConfig):
        share = done.clients_per_round / done.num_clients
        return done.num_rounds * done.local_epochs * share * held
    return 0.0


def cpu_hours(runs: Iterable[tuple[Run, bool]], prices: Mapping[str, float]) -> float:
    """CPU hours of runs.

    Args:
        runs: Each with whether it is a trial.
        prices: CPU seconds an image by network.
    """
    costs = (
        images_of(run, is_trial=is_trial) * prices.get(run.model_options.model, SECONDS_PER_IMAGE)
        for run, is_trial in runs
    )
    return sum(costs) / 3600


def prices_of(rows: Iterable[ResultRow]) -> dict[str, float]:
    """CPU seconds an image by network: the median over rows that tell seconds and a curve."""
    found: dict[str, list[float]] = {}
    for row in rows:
        seen = row.curve[-1].num_seen if row.curve else 0
        if row.cpu_seconds and seen and row.table:
            found.setdefault(row.table, []).append(row.cpu_seconds / seen)
    return {model: statistics.median(costs) for model, costs in found.items()}
