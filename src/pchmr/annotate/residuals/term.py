"""What a term is, and the weights that a stage gives to all of them; no term itself is here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.seen import Evidence


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One stage's weights: standard deviations, scales of the priors, and robust radii.

    Attributes:
        prior: Factor on the pose prior's whitened residual.
        shape: Factor on betas.
        rho_px: Reference pixels beyond which a keypoint stops to pull.
        depth_sd: Metres; 0 leaves keypoint depth out.
        rho_depth: Metres.
        dense: Weight per metre of a dense point; 0 leaves them out.
        rho_dense: Metres.
        limits: Factor on joint limits.
        rho_bone: Metres.
        free: "root": root, translation, depth, focal; "camera": the first two; "pose": the others.
    """

    prior: float = 1.0
    shape: float = 1.0
    rho_px: float = 60.0
    depth_sd: float = 0.0
    rho_depth: float = 0.12
    dense: float = 0.0
    rho_dense: float = 0.12
    limits: float = 1.0
    rho_bone: float = 0.3
    free: Literal["root", "camera", "pose", "all"] = "all"


class Term(NamedTuple):
    """A group of residual vectors.

    Attributes:
        name: Of the group.
        residual: Vectors (B, n, d).
        derive: Gives their derivative (B, n, d, C) by all unknowns; called only where a step is
            computed.
        weight: Of each vector (B, n).
        rho: Length from which a vector stops to pull.
        constant: Energy (B,) that no unknown changes smoothly, such as a mixture component's.
    """

    name: str
    residual: Tensor
    derive: Callable[[], Tensor]
    weight: Tensor
    rho: float = math.inf
    constant: Tensor | None = None

    def energy(self) -> Float[Tensor, " batch"]:
        """Robust energy of each frame."""
        squares = self.residual.square().sum(dim=-1)
        if math.isfinite(self.rho):
            squares = squares / (1 + squares / self.rho**2)
        total = (self.weight.square() * squares).sum(dim=-1)
        return total if self.constant is None else total + self.constant

    def pull(self) -> Float[Tensor, "batch n"]:
        """Square root of the weight of each vector in iteratively reweighted least squares."""
        if not math.isfinite(self.rho):
            return self.weight
        squares = self.residual.square().sum(dim=-1)
        return self.weight / (1 + squares / self.rho**2)


TermFunction = Callable[[Frame, Evidence, Weights], Term | None]
"""A term of a frame; None where the evidence or the stage has nothing to say."""


def sharpened(term: Term, factor: Tensor | None) -> Term:
    """Residuals in units of their own standard deviation, so that the robust radius is too."""
    if factor is None:
        return term
    return term._replace(
        residual=factor[..., None] * term.residual,
        derive=lambda: factor[..., None, None] * term.derive(),
    )
