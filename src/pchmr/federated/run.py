"""A whole federated run: set-up, resume, rounds, records, and the weights at the end."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pchmr.config import FederateConfig, require
from pchmr.data.partition import partition_hash
from pchmr.federated.accounting import Guarantee, guarantee, require_accountant
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client import layout_of, schema_of
from pchmr.federated.clip_gate import ClipGate
from pchmr.federated.flower.engines import ENGINES, Engine
from pchmr.federated.flower.server import Server
from pchmr.federated.forgetting import CLIENTS, forget_clients, require_clients
from pchmr.federated.ledger import Ledger
from pchmr.federated.moments import MomentSpec
from pchmr.federated.outcome import Row
from pchmr.federated.policy import Guard
from pchmr.federated.secure.device import enroll, forget, wipe_rounds
from pchmr.federated.trainable import part_that_trains
from pchmr.federated.update import SECURE_SCHEMA
from pchmr.federated.validation import Gate
from pchmr.federated.vector import Counters, FlatSpec, FlatView
from pchmr.federated.world import World
from pchmr.runs import Checkpoint, RunFolder, settings_of, state_sha256
from pchmr.seeds import derive_seed

PARTITION = "partition.json"
EvaluateFn = Callable[[nn.Module], Mapping[str, Any]]


@dataclass(frozen=True)
class FederatedResult:
    """What a run leaves behind.

    Attributes:
        state_dict: Weights of `world.model` after the last round.
        bytes_up: From all clients to the server, over the run.
        bytes_down: From the server to all clients.
        rows: A row per round, as in `metrics.jsonl`.
        egress: What left clients and what the server saw, from the rows.
        guarantee: Differential privacy, if there is any.
    """

    state_dict: dict[str, Tensor]
    bytes_up: int
    bytes_down: int
    rows: list[Row]
    egress: dict[str, str]
    guarantee: Guarantee | None = None


def run_federated(
    config: FederateConfig,
    world: World,
    run: RunFolder,
    *,
    evaluate_fn: EvaluateFn | None = None,
    on_round: Callable[[Row], None] | None = None,
    engine: Engine | None = None,
    gate: Gate | None = None,
) -> FederatedResult:
    """Federates `world.model` over the clients of `world` and leaves it with the last weights.

    Args:
        config: The run; with `resume` it goes on after the last whole checkpoint.
        world: Model, people and who owns them.
        run: Folder for a row per round, checkpoints, and the partition.
        evaluate_fn: Scores of a model, merged into the rows where they are due.
        on_round: Called with each finished row, those of a resumed run included.
        engine: Carries the messages, in place of the one that the config names.
        gate: Judges replies, in place of the one for the config.

    Raises:
        SettingError: The settings do not fit the world, or no round had enough good replies.
    """
    require(
        len(world.partitions) == config.num_clients,
        f"--num-clients {config.num_clients}, but the people are dealt to {len(world.partitions)}",
    )
    if config.privacy_options.is_noised:
        require_accountant()
    _require_samples(world, Guard.of(run.path / CLIENTS))
    with part_that_trains(config, world.model):
        server = _run(
            config, world, run, evaluate_fn, on_round, engine or ENGINES[config.engine], gate
        )
    return _result(config, world, server)


def _require_samples(world: World, guard: Guard) -> None:
    """Refuses private clients that would refuse every task for having too few samples."""
    least = guard.policy.min_private_samples
    few = [c for c, rows in enumerate(world.partitions) if len(rows) < least]
    require(
        not (world.train_set.is_private and few),
        f"{len(few)} of {len(world.partitions)} clients hold fewer than {least} pictures of "
        "private data and would answer no round: deal them to fewer clients (--num-clients), give "
        "more pictures, or set min_private_samples in the clients' policy.json",
    )


def _run(
    config: FederateConfig,
    world: World,
    run: RunFolder,
    evaluate_fn: EvaluateFn | None,
    on_round: Callable[[Row], None] | None,
    engine: Engine,
    gate: Gate | None,
) -> Server:
    spec = layout_of(world.model, config)
    _require_one_vector(config, spec)
    identity = identity_of(config, world, spec)
    if world.train_set.is_private:
        run.keep_private()
    records = _Records(config, run, _Resident(world.model, spec), identity, evaluate_fn, on_round)
    server = Server(
        config=config,
        spec=spec,
        schema=schema_of(
            spec, config, derive_seed(config.seed, "run", *filter(None, [engine.name]))
        ),
        gate=gate or gate_of(config, world, spec),
        parameters=records.resident.weights.read(),
        buffers=records.resident.statistics.read(),
        carry=engine.carry,
        save=records.save,
        scores=lambda number: records.scores(number, server),
        tell=records.tell,
        scratch=run.path,
        public_keys=_enrolled(config, run) if engine.public_keys is None else engine.public_keys,
        nodes=engine.nodes,
        absent=engine.absent,
    )
    plays_clients = engine.public_keys is None
    _begin(config, world, run, server, identity, on_round, plays_clients=plays_clients)
    nothing_left = server.round == config.num_rounds
    try:
        engine.run(server, world, run.path / CLIENTS)
    finally:
        wipe_rounds(run.path / CLIENTS)
        records.resident.load(server)
    run.checkpoints.retire()
    is_theirs = ALGORITHMS[config.algorithm].is_personal
    if config.server_options.batch_norm != "local" and not is_theirs:
        forget_clients(run)
    if evaluate_fn and nothing_left:  # a finished run was resumed: its end is scored all the same
        evaluate_fn(world.model)
    return server


def _require_one_vector(config: FederateConfig, spec: FlatSpec) -> None:
    """Refuses running statistics that would leave beside a noised update."""
    require(
        not (config.privacy_options.is_noised and spec.num_buffers),
        "--dp-clip lets one clipped vector leave a client, and no running statistics beside it: "
        "add --batch-norm freeze or --batch-norm local",
    )


class _Resident:
    """The one model in memory, which holds the global weights whenever it is scored."""

    def __init__(self, model: nn.Module, spec: FlatSpec) -> None:
        self.model = model
        self.weights = FlatView(model, spec.parameters)
        self.statistics = FlatView(model, spec.buffers)
        self._kept = FlatView(model, spec.kept)
        self._kept_at_start = self._kept.read()
        self._counters = Counters(model)

    def load(self, server: Server) -> None:
        """Puts the server's weights into the model; what clients keep goes back to the start."""
        self.weights.write(server.parameters)
        self.statistics.write(server.buffers)
        self._kept.write(self._kept_at_start)
        self._counters.restore()


@dataclass(frozen=True)
class _Records:
    """What a server tells, scores and saves of its rounds."""

    config: FederateConfig
    run: RunFolder
    resident: _Resident
    identity: dict[str, str]
    evaluate_fn: EvaluateFn | None
    on_round: Callable[[Row], None] | None

    def tell(self, row: Row) -> None:
        """Writes the row of a round, and hands it on."""
        self.run.append_row(row)
        if self.on_round:
            self.on_round(row)

    def scores(self, number: int, server: Server) -> Row:
        """Scores of the server's weights after a round, where they are due."""
        every = self.config.evaluate_every
        due = number == self.config.num_rounds or (every > 0 and number % every == 0)
        if self.evaluate_fn is None or not due:
            return {}
        self.resident.load(server)
        return dict(self.evaluate_fn(self.resident.model))

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves the state after a round."""
        checkpoint.identity = self.identity
        self.run.checkpoints.save(checkpoint)


def _enrolled(config: FederateConfig, run: RunFolder) -> list[bytes]:
    """Public keys of the simulated clients; a run that starts anew has new clients."""
    if not config.privacy_options.is_secure:
        return []
    folder = run.path / CLIENTS
    if not config.resume or run.checkpoints.is_empty:
        forget(folder)
    wipe_rounds(folder)
    return enroll(folder, config.num_clients)


def gate_of(config: FederateConfig, world: World, spec: FlatSpec) -> Gate:
    """The gate of a simulation, whose server dealt the people and so knows every count."""
    counts = [len(rows) for rows in world.partitions]
    clip = config.privacy_options.dp_clip
    if clip is not None:
        return ClipGate.within(clip, max(counts))
    return Gate.of(
        config.optim_options,
        num_parameters=spec.num_parameters,
        max_samples=max(counts),
        local_epochs=config.local_epochs,
        num_samples=counts,
        moments=MomentSpec.of(spec, config),
    )


def _begin(
    config: FederateConfig,
    world: World,
    run: RunFolder,
    server: Server,
    identity: dict[str, str],
    on_round: Callable[[Row], None] | None,
    *,
    plays_clients: bool,
) -> None:
    """Goes back to the last whole checkpoint, or clears what an earlier run left."""
    found = run.checkpoints.latest(identity) if config.resume else None
    if found is None:
        run.checkpoints.clear()
        server.begin_anew()
        forget_clients(run)
        run.write_rows([])
        indices = [rows.tolist() for rows in world.partitions]
        run.write_json(PARTITION, {"sha256": identity["partition"], "clients": indices})
        return
    require(
        found.round <= config.num_rounds,
        f"--resume: {found.round} rounds are finished: give at least as many with --num-rounds",
    )
    if plays_clients and found.round < config.num_rounds:
        require_clients(config, run, found.round)
    server.restore(found)
    Ledger(run.path / CLIENTS).roll_back(found.round)
    run.write_rows(server.rows)
    if found.round < config.num_rounds:
        run.reopen()
    if on_round:
        for row in server.rows:
            on_round(row)


def identity_of(config: FederateConfig, world: World, spec: FlatSpec) -> dict[str, str]:
    """What a resumed run must share with the one it continues."""
    text = json.dumps(settings_of(config), sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "data": world.train_set.content_hash,
        "partition": partition_hash(world.partitions),
        "model": spec.fingerprint,
        "start weights": state_sha256(world.model.state_dict()),
    }


def _result(config: FederateConfig, world: World, server: Server) -> FederatedResult:
    rows = server.rows
    by = {"iid": "at random", "natural": "by scene"}.get(config.partition, f"by {config.partition}")
    label = config.partition_options.partition_label
    return FederatedResult(
        state_dict=world.model.state_dict(),
        bytes_up=sum(row["bytes_up"] for row in rows),
        bytes_down=sum(row["bytes_down"] for row in rows),
        rows=rows,
        egress=describe_egress(rows),
        guarantee=guarantee(
            config, server.num_vectors, server.spec.num_parameters, f"by {label}" if label else by
        ),
    )


def describe_egress(rows: list[Row]) -> dict[str, str]:
    """What left clients and what the server saw, in the words of a table, from a run's rows."""
    left = rows[-1]["left_client"]
    most = max(row["server_saw"]["individual_updates"] for row in rows)
    counted = any(row["server_saw"]["sample_counts"] for row in rows)
    arrays = ", ".join(f"{name} {kind}" for name, kind in left["arrays"].items())
    if left["schema"] == SECURE_SCHEMA:
        fewest = min((row["sum"]["survivors"] for row in rows if row["sum"]), default=0)
        return {
            "leaves_client": f"masked model updates only ({left['schema']}): {arrays}",
            "server_sees": f"the sum over at least {fewest} clients a round and who took part; no "
            "single update, no count, no image, no label",
        }
    return {
        "leaves_client": f"model updates only ({left['schema']}): {arrays}; sums: "
        f"{', '.join(left['numbers'])}",
        "server_sees": f"up to {most} individual updates a round, "
        f"{'their sample counts, ' if counted else ''}and the aggregate; no image, no label",
    }
