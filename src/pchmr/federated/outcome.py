"""What came of a round, as it is collected and as it is written into `metrics.jsonl`."""

from dataclasses import asdict, dataclass, field

from pchmr.door import Json
from pchmr.federated.cohort import Reply
from pchmr.federated.update import SchemaSummary

Row = Json  # a `RoundRow` in plain values, and scores beside it where they are due


@dataclass(frozen=True)
class Quarantined:
    """A reply that does not count; client -1 stands for a sender nobody asked."""

    client_id: int
    reason: str


@dataclass(frozen=True)
class Clipped:
    """A reply that counts for less than it said; `scale` is the smallest factor on its arrays."""

    client_id: int
    scale: float


@dataclass(frozen=True)
class ServerSaw:
    """What the server learned in a round: how many updates and counts, and whether their sum."""

    individual_updates: int
    sample_counts: int
    aggregate: bool


@dataclass(frozen=True, kw_only=True)
class SumRow:
    """What a sum under masks told.

    Attributes:
        survivors: Clients whose vectors are in it.
        threshold: Fewest of which it would have been opened.
        num_samples: Of all of them; 0 if counts do not leave clients.
        mean_loss: A sample; None if no loss is told.
    """

    survivors: int
    threshold: int
    num_samples: int
    mean_loss: float | None


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """The record of a round: who took part, what left clients, what the server saw.

    Attributes:
        round: From 1.
        cohort: Clients asked in the last attempt.
        num_samples: Of all good replies.
        client_samples: Of each good reply, by client id.
        losses: `total`, the mean loss a sample of those that told theirs.
        update_norms: Lengths of the good updates, as they were sent.
        changed: Whether the model moved.
        quarantined: Replies that did not count.
        clipped: Replies that were shortened.
        bytes_up: From clients.
        bytes_down: To clients.
        left_client: What a reply consists of.
        server_saw: What the server learned.
        seconds: Duration.
        sum: What the sum of a secure round told; None of others and of one that was given up.
        given_up: Stages at which cohorts of a secure round were given up.
    """

    round: int
    cohort: list[int]
    num_samples: int
    client_samples: list[int]
    losses: dict[str, float | None]
    update_norms: list[float]
    changed: bool
    quarantined: list[Quarantined]
    clipped: list[Clipped]
    bytes_up: int
    bytes_down: int
    left_client: SchemaSummary
    server_saw: ServerSaw
    seconds: float
    sum: SumRow | None = None
    given_up: list[str] = field(default_factory=list)

    def plain(self) -> Row:
        """The row in plain values."""
        return asdict(self)


@dataclass
class Outcome:
    """What came of asking cohorts to train, over the attempts of one round."""

    cohort: list[int] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    good: list[Reply] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    sum: SumRow | None = None
    given_up: list[str] = field(default_factory=list)

    def begin(self, clients: list[int]) -> None:
        """A new attempt: what is left of an earlier one is its quarantine and its traffic."""
        self.cohort, self.good, self.sum = clients, [], None
        self.asked |= set(clients)

    def refuse(self, client_id: int, reason: str) -> None:
        """Sets a reply aside; client -1 stands for a sender nobody asked."""
        self.quarantined.append(Quarantined(client_id, reason))

    @property
    def num_samples(self) -> int:
        """Of the replies that count."""
        if self.sum is not None:
            return self.sum.num_samples
        return sum(reply.update.num_samples for reply in self.good)

    @property
    def mean_loss(self) -> float | None:
        """A sample, of the replies that told theirs; None if none did."""
        if self.sum is not None:
            return self.sum.mean_loss
        told = [r.update for r in self.good if r.update.loss_sum is not None]
        count = sum(update.num_samples for update in told)
        return sum(update.loss_sum or 0.0 for update in told) / count if count else None

    @property
    def clipped(self) -> list[Clipped]:
        """Good replies that were shortened."""
        return [Clipped(r.client_id, min(r.scale.values())) for r in self.good if r.scale]
