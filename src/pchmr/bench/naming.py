"""What rows of comparisons say of their runs: table, kind, trial, what differs from the paper."""

from pchmr.config import FederateConfig, TrainConfig
from pchmr.data.sets.folder import is_imported, read_manifest
from pchmr.recipes.cells import LadderRun, Run
from pchmr.recipes.comparisons import domain_of
from pchmr.recipes.rows import ON_DOMAIN, RUNGS, SMALL_BATCH, STATES
from pchmr.results import BEFORE, CENTRALIZED, CONTROL, FEDERATED, ResultRow


def told(row: ResultRow) -> str:
    """What came of a run, in words."""
    return row.failed or f"{row.scores.get('mpjpe_mm')} mm"


def table_of(comparison: str, run: Run) -> str:
    """The network, and on whom, where these are other people than the comparison is made on."""
    data, model = run.data_options, run.model_options.model
    if data.data is not None:
        return f"{model} on {data.data.name}"
    return model if data.domain == domain_of(comparison) else model + ON_DOMAIN + data.domain


def differs_of(run: Run) -> str:
    """What a row has in place of the paper's people, body and start weights."""
    people = run.data_options.data
    if people is not None and is_imported(people):
        about = read_manifest(people)["about"]
        body = "embedded body" if run.model_options.body is None else run.model_options.body.name
        return f"{about['set']}, {about['truth']}, box: {about['box']}, {body}"
    shown = f"rendered people of domain {run.data_options.domain}"
    if people is not None:
        shown = f"people of {people.name}"
    return f"{shown}, embedded body, start weights from domain A"


def kind_of(run: Run) -> str:
    """Kind of a run's row."""
    if isinstance(run, LadderRun):
        return CONTROL
    if isinstance(run, FederateConfig):
        return FEDERATED
    return CENTRALIZED if isinstance(run, TrainConfig) else BEFORE


def trial_of(run: Run) -> str:
    """What a trial is of, in words: a share of so many epochs or rounds."""
    if isinstance(run, TrainConfig):
        return f"{kind_of(run)}, of {run.num_epochs} epochs"
    if not isinstance(run, FederateConfig):
        return kind_of(run)
    if isinstance(run, LadderRun):
        return RUNGS[run.rung]
    said = f"{run.clients_per_round} of {run.num_clients} clients, {run.algorithm}"
    said += f", of {run.num_rounds} rounds"
    if run.server_options.client_state != "reset":
        said += f", state {STATES[run.server_options.client_state]}"
    if run.optim_options.batch_size == SMALL_BATCH:
        said += f", local batch {SMALL_BATCH}"
    if run.server_options.trainable != "all":
        said += f", {run.server_options.trainable} trains"
    if run.partition == "dirichlet":
        said += f", LDA alpha {run.partition_options.alpha:g}"
    return said if run.partition in ("iid", "dirichlet") else f"{said}, {run.partition}"
