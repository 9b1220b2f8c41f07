"""The replies of one cohort, held until all are there: what they are judged by in memory, their
vectors on disk.

A reply can be judged fairly only beside the others: the first one that comes has no yardstick but
its own claims. Of each vector the gate needs its length and a short sketch, which keeps angles; the
values are read again only where the gate changed a cohort or the rule needs all of them at once.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pchmr.federated.spool import Spool
from pchmr.federated.update import Update
from pchmr.seeds import derive_seed

Values = Float[np.ndarray, " size"]
Sketch = Float[np.ndarray, " entries"]
Table = Float[np.ndarray, "replies replies"]
PIECE, ENTRIES = 65536, 65536
JUDGED = ("delta", "control")
"""Arrays whose direction is held against the others'."""


@dataclass
class Reply:
    """A reply that is well-formed, and what the gate makes of it.

    Attributes:
        client_id: Who sent it.
        update: What it says; without its arrays once a cohort holds them.
        lengths: Of its arrays, by name; of running statistics the way from the global ones.
        sketches: Of its delta and its control variate.
        digest: Tells its delta from others.
        reason: Code why it is set aside; None while it counts.
        scale: Factor on each array, by name, where the gate shortens it; 1 elsewhere.
        counted_samples: Samples that its weight is made of.
        counted_steps: Steps that its weight is made of.
    """

    client_id: int
    update: Update
    lengths: dict[str, float]
    sketches: dict[str, Sketch]
    digest: str
    counted_samples: int
    counted_steps: int
    reason: str | None = None
    scale: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, client_id: int, update: Update, lengths: dict[str, float], digest: str) -> "Reply":
        """A reply that counts for what it says."""
        sketches = {n: sketch(a) for n, a in update.arrays.items() if n in JUDGED}
        samples, steps = update.num_samples, update.num_steps
        return cls(client_id, update, lengths, sketches, digest, samples, steps)

    @property
    def is_whole(self) -> bool:
        """Whether it enters the sum as it came."""
        counts = (self.counted_samples, self.counted_steps)
        said = (self.update.num_samples, self.update.num_steps)
        return self.reason is None and not self.scale and counts == said


class Cohort:
    """The replies of a cohort.

    Args:
        sizes: Length of each array of a reply.
        folder: Where vectors wait.

    Attributes:
        replies: In the order of client ids, those set aside included.
    """

    def __init__(self, sizes: dict[str, int], folder: Path | None = None) -> None:
        self.replies: list[Reply] = []
        ends = np.cumsum([0, *sizes.values()]).tolist()
        self._sizes, self._starts = sizes, dict(zip(sizes, ends, strict=False))
        self._spool = Spool(folder, ends[-1])

    def clear(self) -> None:
        """Starts anew."""
        self.replies = []

    def add(self, reply: Reply) -> None:
        """Takes a reply in; its arrays are let go of, since a sender may reuse what it lent."""
        for name, start in self._starts.items():
            self._spool.write(len(self.replies), start, reply.update.arrays[name])
        reply.update = replace(reply.update, arrays={})
        self.replies.append(reply)

    @property
    def good(self) -> list[Reply]:
        """Replies that count so far."""
        return [reply for reply in self.replies if reply.reason is None]

    def arrays(self, reply: Reply) -> dict[str, np.ndarray]:
        """The arrays of a reply, as they came, in memory of their own."""
        made = {name: np.empty(size, dtype=np.float32) for name, size in self._sizes.items()}
        for name, array in made.items():
            self._spool.read(self._row(reply), self._starts[name], array)
        return made

    def products(self, replies: list[Reply]) -> Table:
        """Inner products of all pairs of deltas, as the gate shortened them."""
        size, start = self._sizes["delta"], self._starts["delta"]
        table = np.zeros((len(replies), len(replies)))
        block = np.empty((len(replies), PIECE), dtype=np.float32)
        for place in range(0, size, PIECE):
            piece = block[:, : min(PIECE, size - place)]
            for row, reply in zip(piece, replies, strict=True):
                self._spool.read(self._row(reply), start + place, row)
            table += products(piece)
        scale = np.array([reply.scale.get("delta", 1.0) for reply in replies])
        return table * np.outer(scale, scale)

    def _row(self, reply: Reply) -> int:
        return next(row for row, known in enumerate(self.replies) if known is reply)


def sketch(values: Values) -> Sketch:
    """Short vector whose angle to other sketches is that of the vectors, give or take 0.004.

    Rows of the vector are added up with signs that everybody may know.
    """
    whole = len(values) // ENTRIES
    made = np.zeros(ENTRIES, dtype=np.float32)
    if whole:
        made[:] = _signs(whole) @ values[: whole * ENTRIES].reshape(whole, ENTRIES)
    rest = values[whole * ENTRIES :]
    made[: len(rest)] += rest
    return made


@lru_cache(maxsize=2)
def _signs(count: int) -> Float[np.ndarray, " rows"]:
    rng = np.random.default_rng(derive_seed(0, "sketch"))
    return rng.choice(np.array([-1, 1], dtype=np.float32), size=count)


def products(vectors: Float[np.ndarray, "replies size"]) -> Table:
    """Inner products of all pairs, in float64."""
    exact = vectors.astype(np.float64)
    return exact @ exact.T


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
