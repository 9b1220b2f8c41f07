"""The rounds of a run: draw a cohort, send the model, judge and fold replies, save, go on.

Knows the Flower message API and no runtime: any Grid will do. The state after round r depends on
the state before it and on (seed, r) alone, so a run that was killed goes on bit for bit. Replies
are judged and folded in the order of logical client ids, whatever order they arrive in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pchmr.config import DivergedError, FederateConfig, to_json
from pchmr.federated.accounting import GaussianNoise, most_changed
from pchmr.federated.aggregation import Aggregation
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.asked import AskedRecord
from pchmr.federated.cohort import Cohort, Reply
from pchmr.federated.flower.api import Grid, Message, content_bytes
from pchmr.federated.flower.egress import Carry, once, unpack
from pchmr.federated.flower.replies import carried, check_envelope, in_order
from pchmr.federated.flower.secure_rounds import SecureRounds
from pchmr.federated.flower.tasks import build_task
from pchmr.federated.fold import Fold
from pchmr.federated.hidden import HiddenSum, public_bound
from pchmr.federated.moments import MomentSpec, is_averaged, raised_squares
from pchmr.federated.outcome import Outcome, RoundRow, Row, ServerSaw
from pchmr.federated.rounds import cohort
from pchmr.federated.task import Task
from pchmr.federated.update import Rejected, UpdateSchema
from pchmr.federated.validation import Gate, UpdateTrace
from pchmr.federated.vector import FlatSpec
from pchmr.runs import Checkpoint

ATTEMPTS = 3
NODE_POLL_SECONDS = 0.1
STATE, CLIENTS = "state.", "clients."


@dataclass(kw_only=True)
class Server:
    """The server's state and what it does with it.

    Attributes:
        config: The run.
        spec: Layout of the model.
        schema: Of legal replies.
        gate: Judges the values of replies.
        parameters: Global weights, changed in place between rounds.
        buffers: Global running statistics.
        carry: Makes a Flower array of a NumPy array.
        save: Called with a checkpoint after each round.
        scores: Called with a round's number; returns scores, or nothing if none are due.
        tell: Called with each finished row.
        scratch: Folder of the run, on whose disk replies wait for the others and stands who was
            asked for a vector; None for the system's.
        round: Finished rounds.
        rows: Their records.
        min_nodes: Nodes to wait for before the first round.
        public_keys: Of the clients by logical id, where their sum alone is seen.
        nodes: Node of each logical client; without them, those of the grid in turn.
        absent: Clients that are never drawn.
    """

    config: FederateConfig
    spec: FlatSpec
    schema: UpdateSchema
    gate: Gate
    parameters: np.ndarray
    buffers: np.ndarray
    carry: Carry
    save: Callable[[Checkpoint], None]
    scores: Callable[[int], Row]
    tell: Callable[[Row], None]
    scratch: Path | None = None
    round: int = 0
    rows: list[Row] = field(default_factory=list)
    min_nodes: int = 1
    public_keys: Sequence[bytes] = ()
    nodes: Sequence[int] = ()
    absent: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.algorithm = ALGORITHMS[self.config.algorithm]
        self.state = self.algorithm.init(self.spec.num_parameters)
        rule, num_bad = self.config.server_options.rule, self.config.num_tolerated
        trim = num_bad if rule == "trimmed" else None
        spec, moments = self.spec, MomentSpec.of(self.spec, self.config)
        self._moment_spec = moments
        self.moments = moments.zeros() if is_averaged(self.config) else {}
        sizes = moments.sizes if self.moments else None
        self._fold = Fold(self.algorithm, spec.num_parameters, spec.num_buffers, trim, sizes)
        self._cohort = Cohort(self.schema.sizes, self.scratch)
        self._aggregation = Aggregation(self._fold, self._cohort, rule=rule, num_bad=num_bad)
        self._settings = to_json(self.config)
        self._secure = self._secure_rounds() if self.config.privacy_options.is_secure else None

    def _secure_rounds(self) -> SecureRounds:
        most = public_bound(self.gate.max_samples)
        return SecureRounds(
            config=self.config,
            spec=self.spec,
            schema=self.schema,
            hidden=HiddenSum(self.config, self.schema.sizes, most),
            settings=self._settings,
            carry=self.carry,
            public_keys=self.public_keys,
            absent=self.absent,
            record=AskedRecord(self.scratch),
        )

    @property
    def num_vectors(self) -> int:
        """Of the busiest client, that differential privacy must count.

        A server that sees sums may have seen those of rounds that came to nothing; whoever gets the
        released model sees what changed it.
        """
        if self._secure is not None:
            return self._secure.record.most
        return most_changed(self.rows)

    def begin_anew(self) -> None:
        """Forgets which clients an earlier run in the same folder asked."""
        if self._secure is not None:
            self._secure.record.clear()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to the state after a finished round."""
        self.round, self.rows = checkpoint.round, checkpoint.rows
        self.gate.memory = [UpdateTrace(*trace) for trace in checkpoint.memory["gate"]]
        self.parameters[...] = checkpoint.vectors["parameters"]
        self.buffers[...] = checkpoint.vectors["buffers"]
        for name, vector in self.state.items():
            vector[...] = checkpoint.vectors[STATE + name]
        for name, vector in self.moments.items():
            vector[...] = checkpoint.vectors[CLIENTS + name]
        if self._secure is not None:
            self._secure.recall(checkpoint.memory["secure"], self.round)

    def checkpoint(self) -> Checkpoint:
        """The state after the last finished round; shares memory with the server."""
        return Checkpoint(
            round=self.round,
            vectors={"parameters": self.parameters, "buffers": self.buffers}
            | {STATE + name: vector for name, vector in self.state.items()}
            | {CLIENTS + name: vector for name, vector in self.moments.items()},
            memory={"gate": self.gate.memory}
            | ({} if self._secure is None else {"secure": self._secure.remember()}),
            rows=self.rows,
        )

    def run(self, grid: Grid) -> None:
        """Runs the rounds that are left.

        Raises:
            DivergedError: No round of the run had enough good replies, or the weights overflowed.
        """
        nodes = list(self.nodes) or _wait_for_nodes(grid, self.min_nodes)
        while self.round < self.config.num_rounds:
            row = self._round(grid, nodes, self.round + 1)
            self.round += 1
            row |= self.scores(self.round)
            self.rows.append(row)
            self.save(self.checkpoint())
            self.tell(row)
        if not any(row["changed"] for row in self.rows):
            reasons = {found["reason"] for row in self.rows for found in row["quarantined"]}
            raise DivergedError(
                "no round had enough good replies, the model is unchanged; reasons: "
                f"{', '.join(sorted(reasons))}"
            )

    def _round(self, grid: Grid, nodes: list[int], number: int) -> Row:
        """One round: up to three cohorts, until one has enough good replies."""
        began, outcome, changed = time.perf_counter(), Outcome(), False
        for attempt in range(ATTEMPTS):
            clients = self._draw(number, attempt, outcome)
            if not clients:
                break
            outcome.begin(clients)
            if self._gather(grid, nodes, number, attempt, outcome):
                self._apply(number, outcome)
                changed = True
                break
        return self._row(number, outcome, changed, time.perf_counter() - began).plain()

    def _draw(self, number: int, attempt: int, outcome: Outcome) -> list[int]:
        """The cohort of an attempt; nobody answers twice in a round, so there may be none left."""
        config = self.config
        if self._secure is not None:
            return self._secure.draw(number, attempt)
        clients = cohort(
            config.seed,
            number,
            config.num_clients,
            config.clients_per_round,
            attempt=attempt,
            asked=outcome.asked | self.absent,
        )
        return clients if len(clients) >= least_replies(config) else []

    def _gather(
        self, grid: Grid, nodes: list[int], number: int, attempt: int, outcome: Outcome
    ) -> bool:
        """Asks a cohort; whether what came is enough to change the model, and in the fold."""
        if self._secure is None:
            self._collect(grid, nodes, number, outcome)
            return len(outcome.good) >= least_replies(self.config)
        task = self._task(number, outcome.cohort[0])
        sums = self._secure.collect(grid, nodes, task, attempt, outcome)
        if sums is not None:
            self._fold.load(sums)
        return sums is not None

    def _collect(self, grid: Grid, nodes: list[int], number: int, outcome: Outcome) -> None:
        """Sends the model to a cohort, keeps what may count, and lets the gate see it whole."""
        self._aggregation.begin()
        carry = once(self.carry)
        messages = [self._message(nodes, number, c, carry) for c in outcome.cohort]
        outcome.bytes_down += sum(content_bytes(message.content) for message in messages)
        wait = self.config.server_options.deadline_seconds
        for arrival in in_order(messages, carried(grid, messages, wait)):
            position, reply = arrival.position, arrival.reply
            client_id = -1 if position is None else outcome.cohort[position]
            try:
                if reply is not None and reply.has_content():  # what it says is still unchecked
                    outcome.bytes_up += content_bytes(reply.content)
                if arrival.reason or reply is None or position is None:
                    raise Rejected(arrival.reason or "no_reply")
                found = self._admit(messages[position], reply, number, client_id)
            except Rejected as rejected:
                outcome.refuse(client_id, rejected.reason)
            except Exception:  # whatever a client sends, the round goes on
                outcome.refuse(client_id, "schema")
            else:
                self._aggregation.add(found)
        self.gate.judge(self._cohort.replies)
        for found in self._cohort.replies:
            if found.reason:
                outcome.refuse(found.client_id, found.reason)
        outcome.good = self._cohort.good

    def _task(self, number: int, client_id: int) -> Task:
        return Task(
            round=number,
            client_id=client_id,
            parameters=self.parameters,
            buffers=self.buffers,
            control=self.state.get("control"),
            moments=self.moments,
        )

    def _message(self, nodes: list[int], number: int, client_id: int, carry: Carry) -> Message:
        task = self._task(number, client_id)
        content = build_task(self.schema, task, self._settings, carry)
        return Message(content, nodes[client_id % len(nodes)], "train", group_id=str(number))

    def _admit(self, asked: Message, reply: Message, number: int, client_id: int) -> Reply:
        check_envelope(asked, reply)
        update = unpack(self.schema, reply.content, self.schema.echo(number, client_id))
        return self.gate.admit(client_id, update, self.buffers, self.spec.variances)

    def _apply(self, number: int, outcome: Outcome) -> None:
        config, noise = self.config, None
        if self._secure is None:
            self._aggregation.finish(self.buffers)
            noise = self._noise(len(outcome.good))
        step = self.algorithm.step(number, config.server_options)
        finite = self._fold.apply(
            self.parameters, self.buffers, self.state, step, config.num_clients, noise
        )
        self._fold.average_moments(self.moments)
        raised_squares(self._moment_spec, self.moments)
        if not finite:
            raise DivergedError(
                f"the weights overflowed in round {number}; lower --server-learning-rate"
            )
        if self._secure is not None:
            self._secure.model_changed()

    def _noise(self, num_replies: int) -> Callable[[np.ndarray], None] | None:
        """What a trusted server adds to the mean under differential privacy."""
        options = self.config.privacy_options
        if options.dp_noise_multiplier is None or options.dp_clip is None:
            return None
        return GaussianNoise(options.dp_noise_multiplier * options.dp_clip / num_replies).add

    def _row(self, number: int, outcome: Outcome, changed: bool, seconds: float) -> RoundRow:
        """The record of a round; under differential privacy nothing of a client stands in it."""
        is_told = not self.config.privacy_options.is_noised
        shown = outcome.good if is_told else []
        hidden = None if self._secure is None else self._secure.hidden
        num_seen = len(outcome.good)
        return RoundRow(
            round=number,
            cohort=outcome.cohort,
            num_samples=outcome.num_samples if is_told else 0,
            client_samples=[reply.update.num_samples for reply in shown],
            losses={"total": outcome.mean_loss},
            update_norms=[reply.lengths["delta"] for reply in shown],
            changed=changed,
            quarantined=outcome.quarantined,
            clipped=outcome.clipped,
            bytes_up=outcome.bytes_up,
            bytes_down=outcome.bytes_down,
            left_client=self.schema.summary() if hidden is None else hidden.summary(),
            server_saw=ServerSaw(num_seen, num_seen if is_told else 0, changed),
            seconds=seconds,
            sum=outcome.sum,
            given_up=outcome.given_up,
        )


def least_replies(config: FederateConfig) -> int:
    """Fewest good replies that change the model: what was asked for, or half of a cohort, but more
    than the rule leaves out.
    """
    options, half = config.server_options, (config.clients_per_round + 1) // 2
    return options.min_good_replies or max(half, config.num_left_out + 1)


def _wait_for_nodes(grid: Grid, count: int) -> list[int]:
    """The node ids, ascending, once there are so many."""
    while len(nodes := sorted(grid.get_node_ids())) < count:
        time.sleep(NODE_POLL_SECONDS)
    return nodes
