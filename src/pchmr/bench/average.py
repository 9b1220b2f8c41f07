"""The mean of a training's late weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The mean of the weights after each step of a run's second half.

    Source: Izmailov et al. 2018, arXiv 1803.05407 (without its cyclic learning rate).
    """

    def __init__(self, model: nn.Module, num_seen: int) -> None:
        self._weights: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._means = [torch.zeros_like(p) for p in self._weights]
        self._left = torch.tensor(num_seen / 2, dtype=torch.float64)
        self._steps = torch.tensor(0)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that steps change, in place."""
        means = {f"mean.{index}": mean for index, mean in enumerate(self._means)}
        return means | {"left": self._left, "steps": self._steps}

    @torch.no_grad()
    def __call__(self, count: int) -> None:
        """Counts a step over so many images."""
        self._left -= count
        if self._left < 0:
            self._steps += 1
            torch._foreach_lerp_(self._means, self._weights, 1 / int(self._steps))

    @torch.no_grad()
    def load(self) -> None:
        """Puts the mean into the model."""
        for weight, mean in zip(self._weights, self._means, strict=True):
            weight.copy_(mean)
