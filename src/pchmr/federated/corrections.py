"""What an algorithm adds to a client's gradients, as hooks on its optimizer.

The local epoch stays the one that every paradigm shares; a hook runs before each step, after
gradient clipping, so the added term is exact. Nothing here knows a federation framework.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.federated.vector import Slot

Flat = Float[np.ndarray, " size"]


class StepCount:
    """Counts the steps of an optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.steps = 0
        optimizer.register_step_post_hook(self._count)

    def _count(self, *_: object) -> None:
        self.steps += 1


@contextmanager
def before_step(
    optimizer: torch.optim.Optimizer, change: Callable[[], None] | None
) -> Iterator[None]:
    """Runs `change` before every optimizer step."""
    if change is None:
        yield
        return
    handle = optimizer.register_step_pre_hook(lambda *_: change())
    try:
        yield
    finally:
        handle.remove()


def proximal(model: nn.Module, mu: float) -> Callable[[], None] | None:
    """Adds mu * (w - w_global) to each gradient; None for mu 0, which is FedAvg.

    Source: Li et al. 2020, arXiv 1812.06127, equation 2.
    """
    if mu == 0:
        return None
    weights = [p for p in model.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in weights]

    @torch.no_grad()
    def add() -> None:
        for weight, anchor in zip(weights, anchors, strict=True):
            if weight.grad is not None:
                weight.grad.add_(weight - anchor, alpha=mu)

    return add


class Variate:
    """A client's control variate over a local epoch (SCAFFOLD).

    Each gradient becomes g - c_i + c. The new c_i is the mean of the raw gradients, which for plain
    SGD is option II of the paper, (x - y) / (K * rate) - c + c_i, and holds for any optimizer.

    Source: Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1.
    """

    def __init__(self, model: nn.Module, slots: tuple[Slot, ...], server: Flat, own: Flat) -> None:
        named = dict(model.named_parameters())
        self._own = own
        self._slots = slots
        self._weights = [named[slot.name] for slot in slots]
        self._shift = [self._piece(server - own, slot, p) for slot, p in self._of()]
        self._sums = [torch.zeros_like(p) for p in self._weights]
        self._steps = 0

    def _of(self) -> Iterator[tuple[Slot, Tensor]]:
        return zip(self._slots, self._weights, strict=True)

    @staticmethod
    def _piece(values: Flat, slot: Slot, like: Tensor) -> Tensor:
        return torch.tensor(values[slot.start : slot.stop], device=like.device).view(slot.shape)

    @torch.no_grad()
    def __call__(self) -> None:
        """Notes the raw gradients and corrects them."""
        self._steps += 1
        for weight, shift, total in zip(self._weights, self._shift, self._sums, strict=True):
            if weight.grad is not None:
                total += weight.grad
                weight.grad += shift

    def finish(self) -> tuple[Flat, Flat]:
        """The client's new control variate, and its change, which is sent."""
        new = np.empty_like(self._own)
        for slot, total in zip(self._slots, self._sums, strict=True):
            mean = (total / max(self._steps, 1)).cpu().numpy()
            new[slot.start : slot.stop] = mean.reshape(-1)
        return new, new - self._own
