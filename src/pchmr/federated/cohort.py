"""The replies of one cohort, held until all are there, and how their vectors lie to each other.

A reply can be judged fairly only beside the others: the first one that comes has no yardstick but
its own claims. So the vectors of a cohort are kept, `clients_per_round` rows in memory that is used
again in every round; what depends on angles and distances is computed from their products alone.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from pchmr.federated.update import Update

Table = Float[np.ndarray, "replies replies"]
PIECE = 65536


@dataclass
class Reply:
    """A reply that is well-formed, and what the gate makes of it.

    Attributes:
        client_id: Who sent it.
        update: What it says; its arrays are rows of the cohort.
        norm: Length of its delta.
        digest: Tells its delta from others.
        reason: Code why it is set aside; None while it counts.
        scale: Factor on each array, by name, where the gate shortens it; 1 elsewhere.
        counted_samples: Samples that its weight is made of.
        counted_steps: Steps that its weight is made of.
    """

    client_id: int
    update: Update
    norm: float
    digest: str
    counted_samples: int
    counted_steps: int
    reason: str | None = None
    scale: dict[str, float] = field(default_factory=dict)


@dataclass
class Cohort:
    """The replies of a cohort, in memory of their own.

    Attributes:
        sizes: Length of each array of a reply.
        replies: In the order of client ids, those set aside included.
    """

    sizes: dict[str, int]
    replies: list[Reply] = field(default_factory=list)
    _rows: list[dict[str, np.ndarray]] = field(default_factory=list)

    def clear(self) -> None:
        """Starts anew; the memory stays."""
        self.replies = []

    def add(self, reply: Reply) -> None:
        """Takes a reply in; its arrays are copied, since a sender may reuse what it lent."""
        place = len(self.replies)
        if place == len(self._rows):
            made = {name: np.empty(size, dtype=np.float32) for name, size in self.sizes.items()}
            self._rows.append(made)
        for name, row in self._rows[place].items():
            np.copyto(row, reply.update.arrays[name])
        reply.update = replace(reply.update, arrays=dict(self._rows[place]))
        self.replies.append(reply)

    @property
    def good(self) -> list[Reply]:
        """Replies that count so far."""
        return [reply for reply in self.replies if reply.reason is None]


def products(vectors: list[np.ndarray], base: np.ndarray | None = None) -> Table:
    """Inner products of all pairs, in float64; of the differences from `base` if there is one."""
    table = np.zeros((len(vectors), len(vectors)))
    for start in range(0, len(vectors[0]) if vectors else 0, PIECE):
        block = np.stack([v[start : start + PIECE] for v in vectors]).astype(np.float64)
        if base is not None:
            block -= base[start : start + PIECE]
        table += block @ block.T
    return table


def cosines(table: Table) -> Table:
    """Cosines of all pairs from their products; 0 where a vector is 0."""
    lengths = np.sqrt(np.diag(table))
    scale = np.outer(lengths, lengths)
    return np.divide(table, scale, out=np.zeros_like(table), where=scale > 0)


def agreement(table: Table) -> Float[np.ndarray, " replies"]:
    """For each vector the median cosine with the others: a minority cannot move it."""
    found, count = cosines(table), len(table)
    others = ~np.eye(count, dtype=bool)
    return np.array([np.median(found[k][others[k]]) for k in range(count)])
