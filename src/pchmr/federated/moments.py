"""The state of a client's optimizer as flat vectors: what `--client-state` averages or keeps.

First moments of every weight (Muon's momentum, AdamW's mean of gradients), then the second moments
of those weights that have them, then how many steps they have seen. Averaged states are means over
clients by the weights of their updates: Yu, Jin and Yang 2019 (arXiv 1905.03817) for momentum, Wang
et al. 2021 (arXiv 2106.02305) and FedAdamW (Liu et al. 2025, arXiv 2510.27486) for Adam's moments,
here with every entry in place of means over blocks. In DiLoCo (Douillard et al. 2023, arXiv
2311.08105) and MuLoCo (Therien et al. 2025, arXiv 2505.23725) clients keep theirs. Scales that
FedBN's clients keep begin every round without moments. Knows no framework.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.config import FederateConfig, SettingError
from pchmr.federated.update import COUNT, FIRST, SECOND
from pchmr.federated.vector import FlatSpec, Slot
from pchmr.muon import is_hidden_shape

Flat = Float[np.ndarray, " _"]
Vectors = dict[str, np.ndarray]
NAMES = {
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
    "muon": ("first", "second", "step"),
}
"""What torch's AdamW and `Muon` call first moments, second moments and steps."""
MOMENTUM = "momentum"
BETAS = (0.9, 0.999)
"""Decay of the two moments of both."""
LARGEST_RATIO = (1 - BETAS[0]) ** 2 / (1 - BETAS[1]) / (1 - BETAS[0] ** 2 / BETAS[1])
"""Of the square of a first moment to the second one, neither corrected for its start: 52.9.

The first moment is the sum of (1 - a) a^i g_i over the gradients g_i, latest first, the second one
that of (1 - b) b^i g_i^2, with (a, b) the decays. By the inequality of Cauchy and Schwarz the
square of the first is at most the second times the sum of (1 - a)^2 / (1 - b) (a^2 / b)^i, whatever
the gradients. The bound holds for weighted means of such pairs, and for their trimmed means.
"""
ROUNDING = 1.001
"""Room of a first moment for rounding; half of it is left to clients by `raised_squares`."""
TINY = 1e-12
"""First moment whose square may have vanished; AdamW moves by 1e-4 rates for it."""


@dataclass(frozen=True)
class MomentSpec:
    """Which moments stand where.

    Attributes:
        first: Weights with a first moment: all that travel, at their own places.
        second: Weights with a second moment, one after the other.
        optimizer: Of `NAMES`.
    """

    first: tuple[Slot, ...]
    second: tuple[Slot, ...]
    optimizer: str

    @classmethod
    def of(cls, spec: FlatSpec, config: FederateConfig) -> "MomentSpec":
        """The layout for a model and the optimizer that a run names."""
        kind, second, start = config.optim_options.optimizer, [], 0
        for slot in spec.parameters:
            if kind == "muon" and is_hidden_shape(slot.shape):
                continue
            size = slot.stop - slot.start
            second.append(Slot(slot.name, slot.shape, start, start + size))
            start += size
        return cls(spec.parameters, tuple(second), kind)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each vector that a client sends."""
        found = {FIRST: self.first[-1].stop}
        return found | ({SECOND: self.second[-1].stop} if self.second else {})

    def pairs(self, vectors: Mapping[str, np.ndarray]) -> Iterator[tuple[Flat, Flat]]:
        """First and second moments, as views, of each weight that has both."""
        first = {slot.name: slot for slot in self.first}
        for own in self.second:
            slot = first[own.name]
            yield vectors[FIRST][slot.start : slot.stop], vectors[SECOND][own.start : own.stop]

    def is_reachable(self, vectors: Mapping[str, np.ndarray]) -> bool:
        """Whether some gradients lead to these moments.

        A first moment beyond that would move its weight by any length. Muon's momentum has no
        second moment to be held against, and needs none: its steps are of one length.
        """
        most = ROUNDING * math.sqrt(LARGEST_RATIO)
        return all(
            bool(np.all(np.abs(first) <= most * np.sqrt(second) + TINY))
            for first, second in self.pairs(vectors)
        )

    def zeros(self) -> Vectors:
        """The state before the first step, the count of steps included."""
        sizes = {**self.sizes, COUNT: 1}
        return {name: np.zeros(size, dtype=np.float32) for name, size in sizes.items()}


def is_averaged(config: FederateConfig) -> bool:
    """Whether the states of optimizers travel."""
    return config.server_options.client_state == "average"


class MomentView:
    """The state of an optimizer over one model, for repeated copies.

    Args:
        model: The network.
        spec: The layout.
    """

    def __init__(self, model: nn.Module, spec: MomentSpec) -> None:
        self._weights = dict(model.named_parameters())
        self._first = {slot.name: slot for slot in spec.first}
        self._second = {slot.name: slot for slot in spec.second}
        self._names = NAMES[spec.optimizer]

    def load(self, optimizer: torch.optim.Optimizer, vectors: Mapping[str, np.ndarray]) -> None:
        """Sets the state of an optimizer; before the first step it is left fresh."""
        count = float(vectors[COUNT][0])
        if count == 0:
            return
        first, second, step = self._names
        for name, slot in self._first.items():
            weight, own = self._weights[name], self._second.get(name)
            moment = _tensor(vectors[FIRST], slot, weight)
            if own is None:
                optimizer.state[weight] = {MOMENTUM: moment}
                continue
            squares = _tensor(vectors[SECOND], own, weight)
            steps = torch.tensor(count, dtype=torch.float32)
            optimizer.state[weight] = {step: steps, first: moment, second: squares}

    def read(
        self, optimizer: torch.optim.Optimizer, before: Mapping[str, np.ndarray], num_steps: int
    ) -> Vectors:
        """The state of an optimizer after a local epoch.

        Args:
            optimizer: It.
            before: What was loaded; stands for weights that saw no gradient.
            num_steps: Taken since.

        Raises:
            SettingError: The optimizer has no such state.
        """
        found = {name: np.array(vector) for name, vector in before.items()}
        found[COUNT] += np.float32(num_steps)
        seen = False
        for name, state in self._states(optimizer):
            for key, slot, vector in self._pairs(name, found):
                if key in state:
                    vector[slot.start : slot.stop] = state[key].detach().cpu().numpy().reshape(-1)
                    seen = True
        if not seen:
            raise SettingError(
                f"--client-state: {type(optimizer).__name__} keeps no moments; take reset"
            )
        return found

    def _states(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name in self._first:
            yield name, optimizer.state.get(self._weights[name], {})

    def _pairs(self, name: str, found: Vectors) -> Iterator[tuple[str, Slot, np.ndarray]]:
        """Name in the optimizer's state, place, and vector, of each moment of a weight."""
        first, second, _ = self._names
        own = self._second.get(name)
        yield (MOMENTUM if own is None else first), self._first[name], found[FIRST]
        if own is not None:
            yield second, own, found[SECOND]


def _tensor(vector: Flat, slot: Slot, like: Tensor) -> Tensor:
    """A slot of a vector as a tensor of its own."""
    return torch.tensor(vector[slot.start : slot.stop], device=like.device).view(slot.shape)


def bounded_squares(spec: MomentSpec, vectors: Mapping[str, np.ndarray], count: float) -> None:
    """Raises second moments, in place, to the square of their first one at least, both corrected
    for their start at zero.

    Rounding under masks can leave a second moment of zero beside a first moment that is not: a step
    would then be longer than any gradient makes it.

    Args:
        spec: The layout.
        vectors: Moments.
        count: Steps that they have seen.
    """
    one, two = (1 - beta**count for beta in BETAS)
    _raise(spec, vectors, two / one**2)


def raised_squares(spec: MomentSpec, vectors: Mapping[str, np.ndarray]) -> None:
    """Raises second moments, in place, to where their first ones are reachable.

    Means of reachable moments are, but for rounding: only where bad clients sent what is hardly
    reachable does it lift a value. What honest clients send back is then reachable, too.

    Args:
        spec: The layout.
        vectors: Moments.
    """
    _raise(spec, vectors, 1 / LARGEST_RATIO / ROUNDING)


def _raise(spec: MomentSpec, vectors: Mapping[str, np.ndarray], share: float) -> None:
    """Raises second moments to a share of the square of their first ones."""
    if SECOND in vectors:
        for first, second in spec.pairs(vectors):
            np.maximum(second, np.square(first) * np.float32(share), out=second)
