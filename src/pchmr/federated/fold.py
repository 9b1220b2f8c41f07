"""Weighted sums of flat vectors, folded as replies arrive, in memory that never grows.

Weights are taken relative to the first reply's, so that reply enters the sum unrounded: one
client's average is its own vector, and global + (local - global) comes back within the rounding of
the delta. All vectors are float32. Work goes in pieces that fit a cache; those for BLAS are below
the length at which it starts threads, which cost more than they save here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_blas_funcs

from pchmr.federated.algorithms import Algorithm, State, Step, Totals, advance_control
from pchmr.federated.moments import COUNT
from pchmr.federated.trimmed import TrimmedSum

Flat = Float[np.ndarray, " size"]
AnyFlat = Float[np.ndarray, " _"]
BLAS_PIECE, CHUNK, SHORT = 8192, 65536, 1024
add_scaled = cast(Callable[..., Any], get_blas_funcs("axpy", dtype=np.float32))


def _rows(values: Flat, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The vector as rows of that length, and what is left over."""
    whole = len(values) // length * length
    return values[:whole].reshape(-1, length), values[whole:]


def vector_norm(values: Flat) -> float:
    """Euclidean length; squares of short pieces are summed in float64. NaN if an entry is."""
    pieces, rest = _rows(values, SHORT)
    total = float(np.vecdot(pieces, pieces).sum(dtype=np.float64)) + float(np.dot(rest, rest))
    return math.sqrt(total) if total >= 0 else math.nan


class WeightedSum:
    """A sum of weighted vectors, in units of the first weight."""

    def __init__(self, size: int) -> None:
        self.values = np.zeros(size, dtype=np.float32)
        self.unit = 0.0

    def clear(self) -> None:
        """Starts anew; the memory stays."""
        self.unit = 0.0

    def load(self, values: Flat, unit: float) -> None:
        """Takes a sum in units of a weight, whose memory it keeps."""
        self.values, self.unit = values, unit

    def add(self, vector: Flat, weight: float) -> None:
        """Adds `weight * vector`."""
        if not self.unit:
            self.unit = weight
            self.values[...] = vector
        else:
            share = weight / self.unit
            rows, rest = _rows(self.values, BLAS_PIECE)
            added, last = _rows(vector, BLAS_PIECE)
            for row, piece in zip(rows, added, strict=True):
                add_scaled(piece, row, a=share)
            rest += np.float32(share) * last

    def mean(self, piece: slice, total: float) -> Flat:
        """A piece of the sum over `total`, which is in units of its own."""
        return self.values[piece] / np.float32(total / self.unit)


@dataclass(frozen=True)
class Sums:
    """Sums of a round that were made elsewhere.

    Attributes:
        totals: Of the replies.
        delta: Weighted sum of updates, in units of `unit`.
        unit: A weight.
        buffers: Sum of running statistics by samples, if they travel.
        control: Sum of the changes of control variates, if there are any.
        moments: Sums of the moments of optimizers by weight, in units of `unit`, if they travel.
    """

    totals: Totals
    delta: AnyFlat
    unit: float
    buffers: AnyFlat | None = None
    control: AnyFlat | None = None
    moments: Mapping[str, AnyFlat] = field(default_factory=dict)


class Fold:
    """The sums of one round: updates, running statistics, control variates.

    Args:
        algorithm: Says how replies are weighted and what becomes of their mean.
        num_parameters: Length of updates.
        num_buffers: Length of running statistics.
        trim: Values left out of every entry at each end, in place of weights; see `trimmed`.
        moments: Lengths of the moments of optimizers, by name, where they travel.

    Attributes:
        totals: Of what was added since `clear`.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        num_parameters: int,
        num_buffers: int,
        trim: int | None = None,
        moments: Mapping[str, int] | None = None,
    ) -> None:
        self._algorithm = algorithm

        def empty(size: int) -> TrimmedSum | WeightedSum:
            return TrimmedSum(size, trim) if trim else WeightedSum(size)

        self._delta, self._buffers = empty(num_parameters), empty(num_buffers)
        self._moments = {name: empty(size) for name, size in (moments or {}).items()}
        self._control = WeightedSum(num_parameters if algorithm.has_control else 0)
        self.totals, self._counted = Totals(), 0.0

    def clear(self) -> None:
        """Starts the next cohort."""
        self.totals, self._counted = Totals(), 0.0
        for total in (self._delta, self._buffers, self._control, *self._moments.values()):
            total.clear()

    def add(
        self,
        arrays: dict[str, np.ndarray],
        num_samples: int,
        num_steps: int,
        share: float | None = None,
    ) -> None:
        """Folds one good reply; its arrays may be reused afterwards.

        Args:
            arrays: Of an update.
            num_samples: What its weight is made of.
            num_steps: Likewise.
            share: Weight of the reply and its statistics in place of the algorithm's.
        """
        weight = self._algorithm.weight(num_samples, num_steps) if share is None else share
        counted = float(num_samples) if share is None else share
        self._delta.add(arrays["delta"], weight)
        if "buffers" in arrays:
            self._buffers.add(arrays["buffers"], counted)
            self._counted += counted
        if "control" in arrays:
            self._control.add(arrays["control"], 1.0)
        for name, total in self._moments.items():
            total.add(arrays[name], weight)
        self.totals.add(num_samples, num_steps, weight)

    def load(self, sums: Sums) -> None:
        """Takes sums in place of replies."""
        self.clear()
        assert isinstance(self._delta, WeightedSum) and isinstance(self._buffers, WeightedSum)
        self._delta.load(sums.delta, sums.unit)
        if sums.buffers is not None:
            self._buffers.load(sums.buffers, 1.0)
        if sums.control is not None:
            self._control.load(sums.control, 1.0)
        for name, values in sums.moments.items():
            total = self._moments[name]
            assert isinstance(total, WeightedSum)
            total.load(values, sums.unit)
        self.totals, self._counted = sums.totals, sums.totals.samples

    def apply(
        self,
        parameters: Flat,
        buffers: np.ndarray,
        state: State,
        step: Step,
        num_clients: int,
        noise: Callable[[np.ndarray], None] | None = None,
    ) -> bool:
        """Moves the global model by the folded round, in place.

        Args:
            parameters: Global weights.
            buffers: Global running statistics.
            state: Of the algorithm.
            step: Its scalars.
            num_clients: In total.
            noise: Changes a piece of the mean in place, before anything else sees it.

        Returns:
            Whether every weight is finite afterwards.
        """
        divisor = self._algorithm.divisor(self.totals)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(parameters), CHUNK):
                piece = slice(start, start + CHUNK)
                update = self._delta.mean(piece, divisor)
                if noise is not None:
                    noise(update)
                vectors = {name: vector[piece] for name, vector in state.items()}
                self._algorithm.apply(parameters[piece], update, vectors, step)
                if self._algorithm.has_control:
                    advance_control(vectors["control"], self._control.values[piece], num_clients)
            finite = math.isfinite(vector_norm(parameters))
        if len(buffers):
            buffers[...] = self._buffers.mean(slice(None), self._counted)
        return finite

    def average_moments(self, moments: Mapping[str, np.ndarray]) -> None:
        """Puts the means of the clients' moments in place of what they began the round with."""
        for name, total in self._moments.items():
            moments[name][...] = total.mean(slice(None), self.totals.weight)
        if self._moments:
            moments[COUNT][...] += self.totals.sample_steps / self.totals.samples
