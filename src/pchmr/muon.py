"""Muon: momentum whose matrices are orthogonalized before the step.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the
step size of Liu et al., "Muon is scalable for LLM training" (2025), so that one learning rate
serves it and AdamW. `torch.optim.Muon` takes no convolutions and iterates in bfloat16, which a
processor without AVX-512 emulates; this one flattens convolutions and stays in float32. Vectors,
and matrices too large to orthogonalize at every step, take the AdamW rule (Loshchilov and Hutter,
ICLR 2019).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_SIDE = 256
"""Matrices whose shorter side is longer than this take the AdamW rule."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5
ADAMW_RMS = 0.2
"""Root mean square of a usual AdamW update, in learning rates."""


class Muon(torch.optim.Optimizer):
    """Muon on matrices and convolutions, AdamW on the rest, with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """Builds the optimizer.

        Args:
            params: Weights to fit; convolutions count as (outputs, everything else).
            lr: Learning rate of AdamW's scale.
            weight_decay: Decay per step, times the learning rate.
            momentum: Decay of the matrices' momentum.
            betas: Decay of the two moments of everything else.
            eps: Added to the root of the second moment.
        """
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**defaults, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step on the gradients; weights without one stay."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                rule = _orthogonal_update if is_hidden_matrix(weight) else _adamw_update
                update = rule(weight.grad, self.state[weight], group)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"])


def is_hidden_matrix(weight: Tensor) -> bool:
    """Whether a weight takes the orthogonalized step."""
    return is_hidden_shape(tuple(weight.shape))


def is_hidden_shape(shape: tuple[int, ...]) -> bool:
    """Whether weights of a shape take the orthogonalized step."""
    if len(shape) < 2:
        return False
    return 1 < min(shape[0], math.prod(shape[1:])) <= LARGEST_SIDE


def orthogonalized(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix with singular values moved to about 1 (0.7 to 1.2), by Newton-Schulz steps.

    Every step multiplies from the left by a polynomial of the same Gram matrix, so the steps are
    taken on the small square matrices and the product with the wide one is formed once.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp_min(1e-12)
    gram = wide @ wide.T
    factor = total = _step_factor(gram, a, b, c)
    for _ in range(NUM_ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _step_factor(gram, a, b, c)
        total = factor @ total
    wide = total @ wide
    return wide if wide.shape == matrix.shape else wide.T


def _step_factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """What one Newton-Schulz step multiplies with: a + b G + c G^2."""
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def _orthogonal_update(grad: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(grad)
    momentum = state["momentum"]
    momentum.lerp_(grad, 1 - group["momentum"])
    ahead = grad.lerp(momentum, group["momentum"]).flatten(1)
    return (ADAMW_RMS * max(ahead.shape) ** 0.5 * orthogonalized(ahead)).view_as(grad)


def _adamw_update(grad: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    if not state:
        state.update(step=torch.tensor(0.0), first=torch.zeros_like(grad))
        state["second"] = torch.zeros_like(grad)
    (one, two), count = group["betas"], float(state["step"].add_(1))
    state["first"].lerp_(grad, 1 - one)
    state["second"].mul_(two).addcmul_(grad, grad, value=1 - two)
    scale = state["second"].div(1 - two**count).sqrt_().add_(group["eps"])
    return state["first"] / (1 - one**count) / scale
