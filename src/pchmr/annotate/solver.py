"""Batched Levenberg-Marquardt with iterative reweighting: every frame its own damping and verdict.

Nothing here knows a body part: it sees terms (residual, derivative, weight, radius), solves the
damped normal equations of all frames at once and keeps a frame's step only where its robust energy
fell. Matches of dense depth stand still while a step is judged.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.kinematics import State, step
from pchmr.annotate.residuals import Objective, Term, Weights

FIRST_DAMPING, DAMPING_RANGE = 1e-2, (1e-5, 1e4)
ACCEPTED, REJECTED = 0.4, 4.0
LARGEST_TURN = 1.0  # radians of any joint in one step


class Solution(NamedTuple):
    """Where the solver stands.

    Attributes:
        state: Unknowns of every frame.
        energy: Robust energy (B,) of the last weights.
        damping: Levenberg-Marquardt damping (B,), to go on with.
    """

    state: State
    energy: Tensor
    damping: Tensor


def energy(terms: list[Term]) -> Float[Tensor, " batch"]:
    """Robust energy of every frame."""
    return torch.stack([term.energy() for term in terms]).sum(dim=0)


def normal_equations(terms: list[Term]) -> tuple[Tensor, Tensor]:
    """Weighted J'J (B, C, C) and J'r (B, C) of terms."""
    rows, values = [], []
    for term in terms:
        pull = term.pull()[..., None]
        values.append((pull * term.residual).flatten(start_dim=1))
        rows.append((pull[..., None] * term.derive()).flatten(1, 2))
    jacobian, residual = torch.cat(rows, dim=1), torch.cat(values, dim=1)
    return jacobian.mT @ jacobian, (jacobian.mT @ residual[..., None])[..., 0]


@torch.no_grad()
def minimize(
    objective: Objective,
    state: State,
    weights: Weights,
    iterations: int,
    damping: Tensor | None = None,
    *,
    settled: float = 0.0,
) -> Solution:
    """At most `iterations` damped steps for every frame.

    Args:
        objective: What is minimized.
        state: Where to begin.
        weights: Of the terms.
        iterations: Steps, at most.
        damping: To begin with.
        settled: Share of its energy that a step must save; where it saves less in every frame, all
            are done.
    """
    if damping is None:
        damping = torch.full_like(state.log_focal, FIRST_DAMPING)
    now = state.log_focal
    frame = None
    for _ in range(iterations):
        matches = objective.associate(state, weights)
        if frame is None:
            frame = objective.frame(state, matches=matches, linear=True)
            terms = objective.terms_at(frame, weights)
            now = energy(terms)
        change = _change(objective, terms, weights, damping)
        tried = step(objective.skeleton, state, frame.chain.world, change)
        ahead = objective.frame(tried, matches=matches)
        terms = objective.terms_at(ahead, weights)
        then = energy(terms)
        better = then < now
        frame = ahead if matches is None and bool(better.all()) else None
        is_done = settled > 0 and bool((better & (now - then < settled * now)).all())
        state, now = tried.where(better, state), torch.where(better, then, now)
        damping = torch.where(better, damping * ACCEPTED, damping * REJECTED).clamp(*DAMPING_RANGE)
        if is_done:
            break
    return Solution(state, now, damping)


def _change(
    objective: Objective, terms: list[Term], weights: Weights, damping: Tensor
) -> Float[Tensor, "batch columns"]:
    """Damped Gauss-Newton step, its largest turn bounded."""
    columns = objective.skeleton.columns
    normal, slope = normal_equations(terms)
    normal, slope = normal.double(), slope.double()
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    normal = normal + torch.diag_embed(damping[:, None] * (diagonal + 1e-3) + 1e-6)
    held = torch.zeros(len(columns), dtype=torch.bool, device=slope.device)
    if weights.free in ("root", "camera"):
        held[3 : columns.turns.stop] = True
        held[columns.betas] = True
    if weights.free == "camera":
        held[columns.depth] = True
        held[columns.focal] = True
        held[columns.tilt] = True
    if weights.free == "pose":
        held[columns.transl.start :] = True
    free = ~held
    change = torch.zeros_like(slope)
    factor, _ = torch.linalg.cholesky_ex(normal[:, free][:, :, free])
    change[:, free] = -torch.cholesky_solve(slope[:, free, None], factor)[..., 0]
    largest = change[:, columns.turns].unflatten(-1, (-1, 3)).norm(dim=-1).amax(dim=-1)
    change = change * (LARGEST_TURN / largest.clamp_min(LARGEST_TURN))[:, None]
    change = torch.where(change.isfinite().all(dim=-1, keepdim=True), change, 0.0)
    return change.to(terms[0].residual.dtype)
