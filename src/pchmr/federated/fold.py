"""Weighted sums of flat vectors, folded as replies arrive, in memory that never grows.

Weights are taken relative to the first reply's, so that reply enters the sum unrounded: one
client's average is its own vector, and global + (local - global) comes back within the rounding of
the delta. All vectors are float32. Work goes in chunks that fit a cache and are below the length
at which BLAS starts threads, which cost more than they save here.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.linalg.blas import saxpy

from pchmr.federated.algorithms import Algorithm, State, Step, Totals, advance_control

Flat = Float[np.ndarray, " size"]
CHUNK = 8192


def _chunks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))


class WeightedSum:
    """A sum of weighted vectors, in units of the first weight."""

    def __init__(self, size: int) -> None:
        self.values = np.zeros(size, dtype=np.float32)
        self.unit = 0.0

    def clear(self) -> None:
        """Starts anew; the memory stays."""
        self.unit = 0.0

    def add(self, vector: Flat, weight: float) -> None:
        """Adds `weight * vector`."""
        if not self.unit:
            self.unit = weight
            self.values[...] = vector
        else:
            for piece in _chunks(len(vector)):
                saxpy(vector[piece], self.values[piece], a=weight / self.unit)


class Fold:
    """The sums of one round: updates, running statistics, control variates."""

    def __init__(self, algorithm: Algorithm, num_parameters: int, num_buffers: int) -> None:
        self._algorithm = algorithm
        self._delta = WeightedSum(num_parameters)
        self._buffers = WeightedSum(num_buffers)
        self._control = WeightedSum(num_parameters if algorithm.has_control else 0)
        self.totals = Totals()

    def clear(self) -> None:
        """Starts the next cohort."""
        self.totals = Totals()
        for total in (self._delta, self._buffers, self._control):
            total.clear()

    def add(self, arrays: dict[str, np.ndarray], num_samples: int, num_steps: int) -> None:
        """Folds one good reply; its arrays may be reused afterwards."""
        weight = self._algorithm.weight(num_samples, num_steps)
        self._delta.add(arrays["delta"], weight)
        if "buffers" in arrays:
            self._buffers.add(arrays["buffers"], float(num_samples))
        if "control" in arrays:
            self._control.add(arrays["control"], 1.0)
        self.totals.add(num_samples, num_steps, weight)

    def apply(
        self, parameters: Flat, buffers: np.ndarray, state: State, step: Step, num_clients: int
    ) -> bool:
        """Moves the global model by the folded round, in place.

        Returns:
            Whether every weight is finite afterwards.
        """
        divisor = self._algorithm.divisor(self.totals) / self._delta.unit
        finite = True
        with np.errstate(over="ignore", invalid="ignore"):
            for piece in _chunks(len(parameters)):
                update = self._delta.values[piece] / np.float32(divisor)
                vectors = {name: vector[piece] for name, vector in state.items()}
                self._algorithm.apply(parameters[piece], update, vectors, step)
                if self._algorithm.has_control:
                    advance_control(vectors["control"], self._control.values[piece], num_clients)
                finite &= bool(np.isfinite(np.dot(parameters[piece], parameters[piece])))
        if len(buffers):
            buffers[...] = self._buffers.values / (self.totals.samples / self._buffers.unit)
        return finite
