"""The state of a client's optimizer as flat vectors: what `--client-state` averages or keeps.

First moments of every weight (Muon's momentum, AdamW's mean of gradients), then the second moments
of those weights that have them, then how many steps they have seen. Averaged states are means over
clients by the weights of their updates: Yu, Jin and Yang 2019 (arXiv 1905.03817) for momentum, Wang
et al. 2021 (arXiv 2106.02305) and FedAdamW (Liu et al. 2025, arXiv 2510.27486) for Adam's moments,
here with every entry in place of means over blocks. In DiLoCo (Douillard et al. 2023, arXiv
2311.08105) and MuLoCo (Therien et al. 2025, arXiv 2505.23725) clients keep theirs. Scales that
FedBN's clients keep begin every round without moments. Knows no framework.
"""

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

    @property
    def places(self) -> np.ndarray:
        """Where among the first moments the second ones' weights stand."""
        begins = {slot.name: slot.start for slot in self.first}
        parts = [np.arange(s.stop - s.start) + begins[s.name] for s in self.second]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

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
    if SECOND in vectors:
        one, two = (1 - beta**count for beta in BETAS)
        least = np.square(vectors[FIRST][spec.places]) * np.float32(two / one**2)
        np.maximum(vectors[SECOND], least, out=vectors[SECOND])
