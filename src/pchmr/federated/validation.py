"""The gate before the sum: what a reply can do is bounded by what the cohort does.

A reply is looked at twice. `admit` sees it alone: finite, the samples that its client holds, the
steps that so many samples take, no negative variance, a length that training can reach, moments of
an optimizer that gradients can lead to, not the copy of an earlier update. `judge` sees the cohort
whole, and holds every reply against the others, never against what it says of itself:

- arrays longer than twice the others' median are shortened to that, beyond fifty times set aside;
- where the server does not know how many samples clients hold, a count above three times the
  others' median weighs no more than that;
- losses a hundred times the others' are set aside with their reply;
- copies of one another in a cohort that is otherwise of many minds are set aside, all of them;
- so is a reply that points half as firmly against the cohort as the cohort agrees, and does so far
  outside the spread of the others. Heterogeneous clients and those of one image scatter widely
  around little agreement: where nobody agrees with anybody the check is off.

What passes unshortened enters the sum as it came, bit for bit. The gate cannot tell an honest
update from a clever one of ordinary length; `robust.py` and `trimmed.py` are for that.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pchmr.config import OptimOptions
from pchmr.federated.cohort import Reply, agreement, cosines, products
from pchmr.federated.fold import vector_norm
from pchmr.federated.moments import FIRST, SECOND, MomentSpec
from pchmr.federated.update import Rejected, Update

Values = Float[np.ndarray, " size"]
MEMORY = 200
CLIP_FACTOR, HOPELESS_FACTOR = 2.0, 50.0  # of the others' median length
COUNT_FACTOR, LOSS_FACTOR = 3.0, 100.0  # of the others' median count, loss a sample
FEWEST_OTHERS = 3  # below that, updates of earlier rounds stand in
FEWEST_TO_COMPARE = 5  # replies without which no direction is anybody's
ALIKE, ALIKE_DEVIATIONS, MANY_MINDS = 0.4, 6.0, 0.5
LEAST_AGREEMENT, OPPOSITION, OPPOSITION_DEVIATIONS = 0.02, 0.5, 3.0
# AdamW moves an entry by about its learning rate a step; twice that leaves room for its start.
STEP_SLACK = 2.0
CONTROL_SLACK = 1.01  # rounding
MOMENT_SLACK = 4.0  # of clipped gradients; what SCAFFOLD and FedProx add comes after the clip
BESIDE = ("control", "buffers", FIRST, SECOND)
# From scratch, statistics leave their start (mean 0, variance 1) by far in the first epoch.
FIRST_DRIFT = 100.0
SAMPLED = 4096  # values that an update is recognized by


class UpdateTrace(NamedTuple):
    """What the gate remembers of a good update: its length, and what to recognize it by."""

    norm: float
    digest: str


@dataclass(kw_only=True)
class Gate:
    """Judges replies one by one, then a cohort; its memory is part of a checkpoint.

    Attributes:
        step_length: Farthest that a step can move the weights.
        gradient_length: Longest gradient after clipping.
        max_samples: Most samples that one client holds.
        batch_size: People per step; with the samples it says the steps.
        local_epochs: Passes that a client makes.
        num_samples: Samples of each client, where the server knows them.
        moments: Layout of the moments of optimizers, where they travel.
        memory: Good updates, latest last.
    """

    step_length: float
    gradient_length: float
    max_samples: int
    batch_size: int
    local_epochs: int
    num_samples: Sequence[int] | None = None
    moments: MomentSpec | None = None
    memory: list[UpdateTrace] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        options: OptimOptions,
        *,
        num_parameters: int,
        max_samples: int,
        local_epochs: int,
        num_samples: Sequence[int] | None = None,
        moments: MomentSpec | None = None,
    ) -> "Gate":
        """A gate for clients that train with these options."""
        root = math.sqrt(num_parameters)
        return cls(
            step_length=STEP_SLACK * options.learning_rate * root,
            gradient_length=options.clip * (1 if options.clip_by == "norm" else root),
            max_samples=max_samples,
            batch_size=options.batch_size,
            local_epochs=local_epochs,
            num_samples=num_samples,
            moments=moments,
        )

    def admit(
        self,
        client_id: int,
        update: Update,
        statistics: Values,
        variances: Bool[np.ndarray, " size"],
    ) -> Reply:
        """Looks at a reply alone.

        Args:
            client_id: Who was asked.
            update: What the schema let through.
            statistics: Running statistics of the global model.
            variances: Which of them are variances.

        Raises:
            Rejected: With the reason code.
        """
        self._check_counts(client_id, update)
        lengths = self._lengths(update, statistics, variances)
        digest = _digest(update.arrays["delta"])
        if lengths["delta"] and any(trace.digest == digest for trace in self.memory):
            raise Rejected("replay")
        return Reply.of(client_id, update, lengths, digest)

    def _lengths(
        self, update: Update, statistics: Values, variances: Bool[np.ndarray, " size"]
    ) -> dict[str, float]:
        """Lengths of the arrays, each within what training can reach."""
        lengths = {"delta": _finite_length(update.arrays["delta"])}
        farthest = self.step_length * self._steps_of(self.max_samples)
        if not self.memory and lengths["delta"] > farthest:
            raise Rejected("norm")
        if "control" in update.arrays:  # the change between two means of clipped gradients
            lengths["control"] = _finite_length(update.arrays["control"])
            if lengths["control"] > CONTROL_SLACK * 2 * self.gradient_length:
                raise Rejected("norm")
        lengths |= self._lengths_of_moments(update)
        if (found := update.arrays.get("buffers")) is not None:
            lengths["buffers"] = _finite_length(found - statistics)
            if np.any(found[variances] < 0):
                raise Rejected("buffers")
            if lengths["buffers"] > FIRST_DRIFT * max(1.0, vector_norm(statistics)):
                raise Rejected("buffers")
        return lengths

    def _lengths_of_moments(self, update: Update) -> dict[str, float]:
        """Lengths of the moments of an optimizer; second ones are never negative, and first ones
        never larger than gradients with such squares make them.
        """
        lengths, longest = {}, MOMENT_SLACK * self.gradient_length
        for name, most in ((FIRST, longest), (SECOND, longest**2)):
            if (found := update.arrays.get(name)) is not None:
                lengths[name] = _finite_length(found)
                if lengths[name] > most or (name == SECOND and np.any(found < 0)):
                    raise Rejected("state")
        if SECOND in lengths:
            assert self.moments is not None, "a gate for moments knows their layout"
            if not self.moments.is_reachable(update.arrays):
                raise Rejected("state")
        return lengths

    def _check_counts(self, client_id: int, update: Update) -> None:
        if not 1 <= update.num_samples <= self.max_samples:
            raise Rejected("num_samples")
        if self.num_samples is not None and update.num_samples != self.num_samples[client_id]:
            raise Rejected("num_samples")
        if update.num_steps != self._steps_of(update.num_samples):
            raise Rejected("num_samples")

    def _steps_of(self, num_samples: int) -> int:
        return math.ceil(num_samples / self.batch_size) * self.local_epochs

    def judge(self, replies: list[Reply]) -> None:
        """Looks at a cohort whole: gives reasons and scales to its replies, remembers the good.

        Args:
            replies: All that were admitted.
        """
        before = [trace.norm for trace in self.memory[-FEWEST_TO_COMPARE:]]
        _refuse_hopeless(replies, before)
        _refuse_absurd_losses(_good(replies))
        for name in ("delta", "control"):
            _refuse_by_direction(_good(replies), name)
        for name, earlier in (("delta", before), *((name, []) for name in BESIDE)):
            _shorten(_good(replies), name, earlier)
        for reply in _good(replies):
            _keep_reachable(reply.scale)
        if self.num_samples is None:
            self._cap_counts(_good(replies))
        good = [UpdateTrace(reply.lengths["delta"], reply.digest) for reply in _good(replies)]
        self.memory = [*self.memory, *good][-MEMORY:]

    def _cap_counts(self, replies: list[Reply]) -> None:
        counts = [float(reply.update.num_samples) for reply in replies]
        for reply, middle in zip(replies, _middles(counts, []), strict=True):
            if middle and reply.update.num_samples > COUNT_FACTOR * middle:
                reply.counted_samples = math.ceil(COUNT_FACTOR * middle)
                reply.counted_steps = self._steps_of(reply.counted_samples)


def _middles(values: list[float], before: list[float]) -> list[float]:
    """For each value the median of the others, with earlier ones where others are few; 0 if none.

    So that one that counts for nothing cannot pull everybody down, zeros are no yardstick.
    """
    found = []
    for place in range(len(values)):
        others = [v for i, v in enumerate(values) if i != place and v]
        if len(others) < FEWEST_OTHERS:
            others += [v for v in before if v]
        found.append(median(others) if others else 0.0)
    return found


def _good(replies: list[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.reason is None]


def _refuse_hopeless(replies: list[Reply], before: list[float]) -> None:
    norms = [reply.lengths["delta"] for reply in replies]
    for reply, norm, middle in zip(replies, norms, _middles(norms, before), strict=True):
        if middle and norm > HOPELESS_FACTOR * middle:
            reply.reason = "norm"


def _shorten(replies: list[Reply], name: str, before: list[float]) -> None:
    """Scales arrays down to the bound that the others set."""
    lengths = [reply.lengths.get(name, 0.0) for reply in replies]
    for reply, length, middle in zip(replies, lengths, _middles(lengths, before), strict=True):
        if middle and length > CLIP_FACTOR * middle:
            reply.scale[name] = CLIP_FACTOR * middle / length


def _keep_reachable(scale: dict[str, float]) -> None:
    """First moments of shortened second ones are shortened by the root at least."""
    if SECOND in scale:
        scale[FIRST] = min(scale.get(FIRST, 1.0), math.sqrt(scale[SECOND]))


def _refuse_absurd_losses(replies: list[Reply]) -> None:
    """Losses far beyond what the others say; a withheld one is no loss."""
    told = [reply for reply in replies if reply.update.loss_sum is not None]
    losses = [(reply.update.loss_sum or 0.0) / reply.update.num_samples for reply in told]
    if len(told) <= FEWEST_OTHERS:
        return
    for reply, loss, middle in zip(told, losses, _middles(losses, []), strict=True):
        if middle and loss > LOSS_FACTOR * middle:
            reply.reason = "loss"


def _refuse_by_direction(replies: list[Reply], name: str) -> None:
    """Copies of one another, then what points against the cohort."""
    if len(replies) < FEWEST_TO_COMPARE:
        return
    if name not in replies[0].sketches:
        return
    table = products(np.stack([reply.sketches[name] for reply in replies]))
    alike = _alike(cosines(table))
    for reply in (reply for reply, is_alike in zip(replies, alike, strict=True) if is_alike):
        reply.reason = "alike"
    left = [place for place, is_alike in enumerate(alike) if not is_alike]
    if len(left) < FEWEST_TO_COMPARE:
        return
    for place, is_against in zip(left, _against(table[np.ix_(left, left)]), strict=True):
        if is_against:
            replies[place].reason = "direction"


def _against(table: Float[np.ndarray, "replies replies"]) -> list[bool]:
    """Which replies oppose the others nearly as firmly as these agree, and beyond their spread."""
    agreed = agreement(table)
    middle = float(np.median(agreed))
    if middle < LEAST_AGREEMENT:
        return [False] * len(agreed)
    bound = min(-OPPOSITION * middle, middle - OPPOSITION_DEVIATIONS * _spread(agreed))
    return (agreed <= bound).tolist()


def _spread(values: Values) -> float:
    """Standard deviation of most of the values, by their median deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _alike(found: Float[np.ndarray, "replies replies"]) -> list[bool]:
    """Which replies nearly copy another, in a cohort that is otherwise of many minds."""
    pairs = found[np.triu_indices(len(found), 1)]
    middle = float(np.median(pairs))
    if middle >= MANY_MINDS:
        return [False] * len(found)
    bound = min(middle + max(ALIKE, ALIKE_DEVIATIONS * _spread(pairs)), 0.999)
    return ((found > bound).sum(axis=1) > 1).tolist()


def _digest(values: Values) -> str:
    """Of values spread over the vector: enough to know a copy, cheap for millions."""
    step = max(1, len(values) // SAMPLED)
    sample = np.ascontiguousarray(values[::step])
    return hashlib.blake2b(sample.tobytes(), digest_size=12).hexdigest()


def _finite_length(values: Values) -> float:
    """The length of a vector whose entries are all finite.

    Raises:
        Rejected: `non_finite` for NaN or infinity, `norm` where the square overflows float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norm = vector_norm(values)
    if not math.isfinite(norm):
        raise Rejected("norm" if np.isfinite(values).all() else "non_finite")
    return norm
