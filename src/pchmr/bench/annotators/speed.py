"""How fast the solver is, what it gains over one-by-one L-BFGS, and how exact its slopes are."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator, Fit, Mode, fit_objective, place, refine
from pchmr.annotate.kinematics import Chain, State, step
from pchmr.annotate.observed import Observations
from pchmr.annotate.residuals import Objective, Term, Weights
from pchmr.annotate.solver import energy
from pchmr.annotate.surface import Surface
from pchmr.bench.annotators.oracle import draw_people, observe
from pchmr.bench.annotators.scores import BATCH
from pchmr.bench.annotators.tables import DENSE, KEYPOINT, METRIC, About, figure
from pchmr.body import load_body
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from pchmr.results import MEASURED, ResultRow, Target

NUM_LBFGS = 8
STEP = 1e-6


def speed_rows(repeats: int, about: About) -> list[ResultRow]:
    """A batch of 32, one refit, L-BFGS on the same objective, and the worst derivative."""
    annotator = Annotator(load_body())
    seen = observe(annotator.body, draw_people(annotator.body, BATCH, domain="B"), METRIC)
    rows: list[ResultRow] = []

    def put(name: str, value: float, unit: str, target: Target) -> None:
        rows.append(figure(name, value, unit, target, about, table="speed"))

    for mode in MODES:
        ms = [_milliseconds(lambda m=mode: annotator.fit(seen, MODES[m])) for _ in range(repeats)]
        put(
            f"{mode}, CPU-ms an image at batch {BATCH}, least",
            min(ms) / BATCH,
            "ms",
            Target("<=", 60),
        )
        middle = float(np.median(ms)) / BATCH
        put(f"{mode}, CPU-ms an image at batch {BATCH}, median", middle, "ms", MEASURED)
    single = seen.take(slice(0, 1))
    held = annotator.fit(single, MODES[DENSE])
    ms = [_milliseconds(lambda: refit(annotator, single, held)) for _ in range(repeats)]
    put("one interactive refit, CPU-ms, least", min(ms), "ms", Target("<=", 300))
    ratio, cost = against_lbfgs(annotator, seen, NUM_LBFGS)
    put("one-by-one L-BFGS over ours, CPU time", ratio, "x", Target(">=", 30))
    put("our mean robust cost over that of L-BFGS", cost, "x", Target("<=", 1))
    label = "worst derivative against central differences, float64, relative"
    put(label, worst_derivative(), "x", Target("<=", 1e-6))
    return rows


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def refit(annotator: Annotator, observations: Observations, held: Fit) -> Fit:
    """What one drag of a keypoint costs: the refining stages from the fit at hand."""
    return refine(annotator, observations, MODES[DENSE], held.state)


def against_lbfgs(annotator: Annotator, seen: Observations, count: int) -> tuple[float, float]:
    """Time of one-by-one L-BFGS over ours, and our mean energy over its, keypoint mode.

    Both run the same stages from the same four starts on the same robust energy; L-BFGS has strong
    Wolfe line search, rate 1, at most 30 iterations a stage, as SMPLify-X sets it.
    """
    mode = MODES[KEYPOINT]
    seen = replace(seen, points=None)
    objective = annotator.objective(seen, depth=True, dense=False)
    starts = annotator.yaw_starts(len(seen))
    began = time.process_time()
    ours = fit_objective(objective, mode, starts)
    our_ms = (time.process_time() - began) / len(seen)
    began = time.process_time()
    theirs = [
        _lbfgs_fit(objective.take(torch.tensor([row])), mode, annotator) for row in range(count)
    ]
    their_ms = (time.process_time() - began) / count
    return their_ms / our_ms, float(ours.energy[:count].mean()) / float(np.mean(theirs))


def _lbfgs_fit(objective: Objective, mode: Mode, annotator: Annotator) -> float:
    found = []
    for start in annotator.yaw_starts(1):
        state = place(objective, start)
        for stage in mode.scout:
            state, cost = _lbfgs(objective, state, stage.weights)
        found.append((cost, state))
    state = min(found, key=lambda pair: pair[0])[1]
    cost = 0.0
    for stage in mode.refine:
        state, cost = _lbfgs(objective, state, stage.weights)
    return cost


def _lbfgs(objective: Objective, state: State, weights: Weights) -> tuple[State, float]:
    """One stage of L-BFGS over rotation vectors and the other unknowns."""
    leaves = [rotmat_to_rotvec(state.rotmat), *state[1:]]
    leaves = [leaf.clone().requires_grad_(True) for leaf in leaves]
    rest = rotmat_to_rotvec(state.rotmat)[:, 1:]

    def build() -> State:
        rotvec = leaves[0]
        if weights.free == "root":
            rotvec = torch.cat([rotvec[:, :1], rest], dim=1)
        return State(rotvec_to_rotmat(rotvec), *leaves[1:])

    free = [leaves[0], *leaves[2:]] if weights.free == "root" else leaves
    optimizer = torch.optim.LBFGS(
        free,
        lr=1.0,
        max_iter=30,
        tolerance_grad=1e-9,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = energy(objective.terms_at(objective.frame(build()), weights)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        done = State(*(value.detach() for value in build()))
        cost = energy(objective.terms_at(objective.frame(done), weights))
    return done, float(cost)


@dataclass(frozen=True)
class _StillSurface(Surface):
    """A surface whose normals do not turn within a step, as in the solver's model of one."""

    still: Tensor

    def normals(self, chain: Chain) -> Tensor:
        return self.still


@torch.no_grad()
def worst_derivative(count: int = 4) -> float:
    """Largest difference of any term's derivative from central differences, over that term's size.

    In float64, at fitted states of people with metric depth, all terms and all unknowns.
    """
    body = load_body().double()
    annotator = Annotator(body)
    people = draw_people(load_body(), count, domain="B")
    seen = observe(load_body(), people, METRIC)
    state = annotator.fit(seen, MODES[DENSE]).state
    weights = MODES[DENSE].refine[-1].weights
    objective = annotator.objective(seen, depth=True, dense=True)
    matches = objective.associate(state, weights)
    frame = objective.frame(state, matches=matches, linear=True)
    terms = {term.name: term for term in objective.terms_at(frame, weights)}
    slopes = {name: term.derive() for name, term in terms.items()}
    surface = objective.surface
    assert surface is not None
    still = _StillSurface(surface.rig, surface.rest_normals, surface.normals(frame.chain))
    held = replace(objective, surface=still)
    worst = 0.0
    for column in range(len(annotator.skeleton.columns)):
        change = torch.zeros(count, len(annotator.skeleton.columns), dtype=torch.float64)
        change[:, column] = STEP
        sides: list[dict[str, Term]] = []
        for sign in (1, -1):
            moved = step(annotator.skeleton, state, frame.chain.world, sign * change)
            found = held.terms_at(held.frame(moved, matches=matches), weights)
            sides.append({term.name: term for term in found})
        for name, exact in slopes.items():
            ahead, behind = (side[name].residual for side in sides)
            size = exact.abs().amax().clamp_min(1.0)
            off = (exact[..., column] - (ahead - behind) / (2 * STEP)).abs().amax()
            worst = max(worst, float(off / size))
    return worst
