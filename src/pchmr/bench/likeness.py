"""Which rows of earlier versions are of a run, although their key was made in another way.

A key also hashes how people and body are stored, which changes with the code; a run is the same
where its deciding settings, its start weights and its recipe of people are. Rows of federated runs
count only where no client's last batch is short: these are split evenly now, and were not.
"""

import dataclasses
import json
from collections.abc import Mapping

from pchmr.config import (
    EvaluateConfig,
    FederateConfig,
    PrivacyOptions,
    TrainConfig,
    UserError,
    from_json,
    settings_marked,
)
from pchmr.config.marks import KEY
from pchmr.recipes.cells import Run
from pchmr.results import ResultRow

OPEN = dataclasses.asdict(PrivacyOptions())
"""Updates in the clear, as before they could be hidden: no part of a key."""
AS_EVER = (("client_state", "reset"), ("bystanders", 0.0))
"""Optimizers begin every round anew, nobody stands beside: as it was before there was a choice."""


def of_run(run: Run, start: str | None, worlds: Mapping[str, str]) -> str:
    """What tells a run from others."""
    settings = deciding(dataclasses.asdict(run))
    return json.dumps(
        [type(run).__name__, settings, start, dict(worlds)], sort_keys=True, default=str
    )


def of_row(row: ResultRow) -> str | None:
    """The same of a row's run; None where its settings are not those of a run."""
    run = run_of(row)
    if run is None or row.started_from is None:
        return None
    return of_run(run, row.started_from.sha256, row.worlds)


def run_of(row: ResultRow) -> Run | None:
    """The run whose settings a row holds."""
    config = row.config
    kind: type[Run] = EvaluateConfig
    if "num_rounds" in config:
        kind = FederateConfig
    elif "num_epochs" in config:
        kind = TrainConfig
    try:
        return from_json(kind, json.dumps(dict(config)))
    except UserError:
        return None


def has_short_batches(run: Run) -> bool:
    """Whether some client's last batch would be shorter than the others, were they not split."""
    if not isinstance(run, FederateConfig):
        return False
    held, size = run.data_options.num_samples // run.num_clients, run.optim_options.batch_size
    return run.partition != "iid" or (held > size and held % size != 0)


def deciding(value: object) -> object:
    """Settings that decide what comes of a run; those left off are out, so that a new one that is
    off changes no key.
    """
    if not isinstance(value, dict):
        return value
    kept = {name: v for name, v in value.items() if name not in settings_marked(KEY)}
    told = {name: v for name, v in kept.items() if v is not None and v is not False}
    told = {name: v for name, v in told.items() if v != OPEN and (name, v) not in AS_EVER}
    return {name: deciding(v) for name, v in told.items()}
