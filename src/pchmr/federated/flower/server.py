"""The rounds of a run: draw a cohort, send the model, judge and fold replies, save, go on.

Knows the Flower message API and no runtime: any Grid will do. The state after round r depends on
the state before it and on (seed, r) alone, so a run that was killed goes on bit for bit. Replies
are judged and folded in the order of logical client ids, whatever order they arrive in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pchmr.config import DivergedError, FederateConfig, to_json
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.checkpoint import Checkpoint
from pchmr.federated.client import Task
from pchmr.federated.flower.api import Grid, Message
from pchmr.federated.flower.client_app import Carry, build_task
from pchmr.federated.flower.egress import REASONS, Rejected, UpdateSchema
from pchmr.federated.flower.replies import in_order
from pchmr.federated.fold import Fold
from pchmr.federated.rounds import cohort
from pchmr.federated.validation import Gate, Seen
from pchmr.federated.vector import FlatSpec

ATTEMPTS = 3
NODE_POLL_SECONDS = 0.1
STATE = "state."
Row = dict[str, Any]


class Good(NamedTuple):
    """A reply that passed the gate."""

    client_id: int
    num_samples: int
    norm: float
    loss_sum: float


@dataclass
class Outcome:
    """What came of asking cohorts to train, over the attempts of one round."""

    cohort: list[int] = field(default_factory=list)
    good: list[Good] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    num_sent: int = 0
    num_received: int = 0

    def begin(self, clients: list[int]) -> None:
        """A new attempt: what is left of an earlier one is its quarantine and its traffic."""
        self.cohort, self.good = clients, []
        self.num_sent += len(clients)

    def refuse(self, client_id: int, reason: str) -> None:
        """Sets a reply aside; client -1 stands for a sender nobody asked."""
        self.quarantined.append({"client_id": client_id, "reason": reason})


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
        round: Finished rounds.
        rows: Their records.
        min_nodes: Nodes to wait for before the first round.
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
    round: int = 0
    rows: list[Row] = field(default_factory=list)
    min_nodes: int = 1

    def __post_init__(self) -> None:
        self.algorithm = ALGORITHMS[self.config.algorithm]
        self.state = self.algorithm.init(self.spec.num_parameters)
        trim = self.config.server_options.trimmed_replies
        self._fold = Fold(self.algorithm, self.spec.num_parameters, self.spec.num_buffers, trim)
        self._settings = to_json(self.config)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to the state after a finished round."""
        self.round, self.rows = checkpoint.round, checkpoint.rows
        self.gate.memory = [Seen(*seen) for seen in checkpoint.memory["gate"]]
        self.parameters[...] = checkpoint.vectors["parameters"]
        self.buffers[...] = checkpoint.vectors["buffers"]
        for name, vector in self.state.items():
            vector[...] = checkpoint.vectors[STATE + name]

    def checkpoint(self) -> Checkpoint:
        """The state after the last finished round; shares memory with the server."""
        return Checkpoint(
            round=self.round,
            vectors={"parameters": self.parameters, "buffers": self.buffers}
            | {STATE + name: vector for name, vector in self.state.items()},
            memory={"gate": self.gate.memory},
            rows=self.rows,
        )

    def run(self, grid: Grid) -> None:
        """Runs the rounds that are left.

        Raises:
            DivergedError: No round of the run had enough good replies, or the weights overflowed.
        """
        nodes = _wait_for_nodes(grid, self.min_nodes)
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
        began, config, outcome = time.perf_counter(), self.config, Outcome()
        enough = least_replies(config)
        changed = False
        self.gate.begin()
        for attempt in range(ATTEMPTS):
            outcome.begin(
                cohort(
                    config.seed, number, config.num_clients, config.clients_per_round,
                    attempt=attempt,
                )
            )  # fmt: skip
            self._collect(grid, nodes, number, outcome)
            if self._settle(outcome) and self._fold.totals.replies >= enough:
                self._apply(number)
                changed = True
                break
        return self._row(number, outcome, changed, time.perf_counter() - began)

    def _collect(self, grid: Grid, nodes: list[int], number: int, outcome: Outcome) -> None:
        """Sends the model to a cohort; judges and folds the replies in client order."""
        self._fold.clear()
        messages = [self._message(nodes, number, client_id) for client_id in outcome.cohort]
        replies = grid.send_and_receive(
            messages, timeout=self.config.server_options.deadline_seconds
        )
        for arrival in in_order(messages, replies):
            position, reply = arrival.position, arrival.reply
            client_id = -1 if position is None else outcome.cohort[position]
            outcome.num_received += reply is not None and reply.has_content()
            try:
                if arrival.reason or reply is None:
                    raise Rejected(arrival.reason or "no_reply")
                self._judge(reply, number, client_id, outcome)
            except Rejected as rejected:
                outcome.refuse(client_id, rejected.reason)
            except Exception:  # whatever a client sends, the round goes on
                outcome.refuse(client_id, "schema")

    def _settle(self, outcome: Outcome) -> bool:
        """Whether the sum holds good replies alone, now that the gate sees the cohort whole."""
        refused = self.gate.settle(self.buffers)
        for place, reason in refused.items():
            outcome.refuse(outcome.good[place].client_id, reason)
        outcome.good = [good for place, good in enumerate(outcome.good) if place not in refused]
        return not refused

    def _message(self, nodes: list[int], number: int, client_id: int) -> Message:
        task = Task(
            round=number,
            client_id=client_id,
            parameters=self.parameters,
            buffers=self.buffers,
            control=self.state.get("control"),
        )
        content = build_task(self.schema, task, self._settings, self.carry)
        return Message(content, nodes[client_id % len(nodes)], "train", group_id=str(number))

    def _judge(self, reply: Message, number: int, client_id: int, outcome: Outcome) -> None:
        if reply.has_error():
            reason = reply.error.reason
            raise Rejected(reason if reason in REASONS else "client_error")
        update = self.schema.check(reply.content, self.schema.echo(number, client_id))
        norm = self.gate.admit(update, self.buffers, self.spec.variances)
        self._fold.add(update.arrays, update.num_samples, update.num_steps)
        outcome.good.append(Good(client_id, update.num_samples, norm, update.loss_sum))

    def _apply(self, number: int) -> None:
        step = self.algorithm.step(number, self.config.server_options)
        finite = self._fold.apply(
            self.parameters, self.buffers, self.state, step, self.config.num_clients
        )
        if not finite:
            raise DivergedError(
                f"the weights overflowed in round {number}; lower --server-learning-rate"
            )

    def _row(self, number: int, outcome: Outcome, changed: bool, seconds: float) -> Row:
        """The record of a round: who took part, what left clients, what the server saw."""
        client_samples = [good.num_samples for good in outcome.good]
        num_samples, loss = sum(client_samples), sum(good.loss_sum for good in outcome.good)
        return {
            "round": number,
            "cohort": outcome.cohort,
            "num_samples": num_samples,
            "client_samples": client_samples,
            "losses": {"total": loss / num_samples if num_samples else None},
            "update_norms": [good.norm for good in outcome.good],
            "changed": changed,
            "quarantined": outcome.quarantined,
            "bytes_up": outcome.num_received * self.schema.num_bytes(),
            "bytes_down": outcome.num_sent * self._task_bytes(),
            "left_client": self.schema.summary(),
            "server_saw": {
                "individual_updates": len(outcome.good),
                "sample_counts": len(outcome.good),
                "aggregate": changed,
            },
            "seconds": seconds,
        }

    def _task_bytes(self) -> int:
        return self.schema.num_bytes() + len(self._settings)


def least_replies(config: FederateConfig) -> int:
    """Fewest good replies that change the model: what was asked for, or half of a cohort, but more
    than are trimmed.
    """
    options = config.server_options
    trimmed = 2 * (options.trimmed_replies or 0)
    return options.min_good_replies or max((config.clients_per_round + 1) // 2, trimmed + 1)


def _wait_for_nodes(grid: Grid, count: int) -> list[int]:
    """The node ids, ascending, once there are so many."""
    while len(nodes := sorted(grid.get_node_ids())) < count:
        time.sleep(NODE_POLL_SECONDS)
    return nodes
