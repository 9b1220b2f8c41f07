"""How well each way of annotating does, on synthetic people with oracle observations.

Errors are against synthetic truth of the embedded body: compare rows with each other, never with a
figure on photographs. The people wear clothes, which the depth sees and the body does not; those of
domain B do what the pose prior has never seen.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator, Fit, Mode, fit_objective, place, refine
from pchmr.annotate.keypoints import FOOT_POINTS, HAND_POINTS
from pchmr.annotate.kinematics import State
from pchmr.annotate.modes import FITTERS
from pchmr.annotate.observations import Observations
from pchmr.annotate.priors.oracle import OracleNoise, People, draw_people, observe
from pchmr.annotate.quality import (
    ASSET,
    coverage_curve,
    fit_predictor,
    inspect,
    load_predictors,
    save_predictors,
)
from pchmr.annotate.residuals import Objective, Weights
from pchmr.annotate.solver import energy
from pchmr.body import BodyModel, load_body
from pchmr.body.joints import COCO_23, EVALUATION_14, SMPL_24
from pchmr.config import Domain
from pchmr.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from pchmr.metrics import MM_PER_METRE, mpjpe, mpvpe, pa_mpjpe
from pchmr.recipes import derive_seed

BATCH = 32
FAILURE_MM = 150.0
BOOTSTRAPS = 1000
METRIC = OracleNoise()
AFFINE = OracleNoise(depth_kind="affine", depth_smooth=0.05)
HARD = {"pixel_sd": 5.0, "swap_share": 0.05, "outlier_share": 0.08}
SCORES = ("mpvpe_mm", "mpjpe_mm", "pa_mpjpe_mm", "foot_mm", "hand_mm")
DEPTH_NOISES_CM = (0, 1, 2, 3, 5, 7.5, 10, 15, 20)

CASES: tuple[tuple[str, str, OracleNoise], ...] = (
    ("smplifyx", "none", METRIC),
    ("smplifyx-given-focal", "none", METRIC),
    ("strong-2d", "none", METRIC),
    ("deposer-keypoint", "affine, 5 cm", AFFINE),
    ("deposer-keypoint", "affine, 10 cm", replace(AFFINE, depth_smooth=0.1)),
    ("deposer-keypoint", "metric, 2 cm", METRIC),
    ("deposer-dense", "metric, 2 cm", METRIC),
    ("strong-2d", "none, hard", replace(METRIC, **HARD)),
    ("deposer-keypoint", "affine, 5 cm, hard", replace(AFFINE, **HARD)),
    ("deposer-dense", "metric, 2 cm, hard", replace(METRIC, **HARD)),
)
"""Mode, depth, noise; `hard` adds noise, outliers and left-right swaps in 5 % of the frames."""


@dataclass(frozen=True)
class Run:
    """Scores of one mode on one set of observations, one value a person."""

    scores: dict[str, Float[np.ndarray, " people"]]
    signals: dict[str, np.ndarray]
    ms_per_image: float


def run_mode(
    annotator: Annotator,
    people: People,
    observations: Observations,
    mode: str,
    *,
    batch: int = BATCH,
) -> Run:
    """Annotates people batch by batch and scores them; time is process CPU time of the fit."""
    scores: list[dict[str, Tensor]] = []
    signals: list[dict[str, np.ndarray]] = []
    spent = 0.0
    for at in range(0, len(people), batch):
        rows = slice(at, at + batch)
        began = time.process_time()
        fit = FITTERS[mode](annotator, observations.take(rows), ())
        spent += time.process_time() - began
        scores.append(score(annotator, fit, people.vertices[rows]))
        signals.append(inspect(annotator, fit).signals)
    return Run(
        {name: torch.cat([part[name] for part in scores]).numpy() for name in SCORES},
        {name: np.concatenate([part[name] for part in signals]) for name in signals[0]},
        spent / len(people) * 1000,
    )


def score(
    annotator: Annotator, fit: Fit, truth: Float[Tensor, "people vertices 3"]
) -> dict[str, Tensor]:
    """Errors in mm, all about the mean of the hips of the evaluation joints."""
    body, found = annotator.body, annotator.vertices(fit)
    root = list(EVALUATION_14.root)
    sides = []
    for vertices in (found, truth):
        joints = body.regress(vertices, EVALUATION_14)
        center = joints[:, root].mean(dim=1, keepdim=True)
        sides.append((vertices - center, joints - center))
    (vertices, joints), (true_vertices, true_joints) = sides
    errors = {
        "mpvpe_mm": mpvpe(vertices, true_vertices),
        "mpjpe_mm": mpjpe(joints, true_joints),
        "pa_mpjpe_mm": pa_mpjpe(joints, true_joints),
    }
    for name, chosen in (("foot_mm", FOOT_POINTS), ("hand_mm", HAND_POINTS)):
        ends = [_ends(body, part, chosen) for part in (vertices, true_vertices)]
        errors[name] = mpjpe(*ends)
    return {name: value * MM_PER_METRE for name, value in errors.items()}


def _ends(body: BodyModel, vertices: Tensor, chosen: Sequence[str]) -> Tensor:
    """Points regressed from meshes; hand joints by their rest regressor."""
    rows = []
    for point in chosen:
        kind, name = point.split(":")
        rows.append(_row(body, kind, name))
    return torch.einsum("kv,nvx->nkx", torch.stack(rows), vertices)


def _row(body: BodyModel, kind: str, name: str) -> Tensor:
    if kind == "coco":
        return body.get_buffer("J_regressor_coco")[COCO_23.index(name)]
    return body.J_regressor[SMPL_24.index(name)]


def bootstrap(
    values: Sequence[Float[np.ndarray, " people"]],
    statistic: Callable[..., np.ndarray],
    *,
    seed: int,
) -> tuple[float, float]:
    """95 % interval of a statistic of means over people, drawn with replacement."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    pick = rng.integers(0, len(values[0]), (BOOTSTRAPS, len(values[0])))
    drawn = statistic(*(value[pick].mean(axis=1) for value in values))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def run_annotators(
    n: int,
    seed: int = 0,
    *,
    domain: Domain = "B",
    cases: Sequence[tuple[str, str, OracleNoise]] = CASES,
    annotator: Annotator | None = None,
) -> list[dict[str, Any]]:
    """One row a case: errors in mm with 95 % intervals, ratios to `strong-2d`, failures, time.

    Args:
        n: People.
        seed: Draws people and noise.
        domain: World of the people; the prior knows A's training people.
        cases: Mode, name of the depth, noise.
        annotator: Body and prior; the embedded ones by default.
    """
    annotator = annotator or Annotator(load_body())
    people = draw_people(annotator.body, n, domain=domain, seed=seed)
    rows: list[dict[str, Any]] = []
    strong: dict[bool, Run] = {}
    for mode, depth, noise in cases:
        run = run_mode(annotator, people, observe(annotator.body, people, noise, seed=seed), mode)
        hard = "hard" in depth
        if mode == "strong-2d":
            strong[hard] = run
        rows.append(
            {
                "mode": mode, "depth": depth, "domain": domain, "n": n, "seed": seed,
                "noise": asdict(noise), **summary(run, strong.get(hard), seed),
            }
        )  # fmt: skip
    return rows


def summary(run: Run, strong: Run | None, seed: int) -> dict[str, Any]:
    """Means, intervals, ratios to the baseline where there is one, failures and time."""
    found: dict[str, Any] = {}
    for name, values in run.scores.items():
        found[name] = round(float(values.mean()), 2)
        found[f"{name}_95"] = [round(v, 2) for v in bootstrap([values], lambda a: a, seed=seed)]
        if strong is not None and strong is not run:
            base = strong.scores[name]
            found[f"{name}_ratio"] = round(float(values.mean() / base.mean()), 3)
            interval = bootstrap([values, base], lambda a, b: a / b, seed=seed)
            found[f"{name}_ratio_95"] = [round(v, 3) for v in interval]
    found["failures"] = round(float((run.scores["mpjpe_mm"] > FAILURE_MM).mean()), 4)
    found["ms_per_image"] = round(run.ms_per_image, 1)
    return found


def depth_curve(n: int, seed: int = 0, *, domain: Domain = "B") -> list[dict[str, Any]]:
    """MPJPE against depth noise, and where depth stops to pay against `strong-2d`."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, n, domain=domain, seed=seed)

    def mean_mm(mode: str, noise: OracleNoise) -> float:
        seen = observe(annotator.body, people, noise, seed=seed)
        return float(run_mode(annotator, people, seen, mode).scores["mpjpe_mm"].mean())

    flat = mean_mm("strong-2d", METRIC)
    rows = []
    for mode, kind in (("deposer-keypoint", AFFINE), ("deposer-dense", METRIC)):
        for cm in DEPTH_NOISES_CM:
            error = mean_mm(mode, replace(kind, depth_smooth=cm / 100))
            rows.append(
                {
                    "mode": mode, "depth_kind": kind.depth_kind, "depth_noise_cm": cm, "n": n,
                    "domain": domain, "seed": seed, "mpjpe_mm": round(error, 2),
                    "strong_2d_mpjpe_mm": round(flat, 2), "pays": error < flat,
                }
            )  # fmt: skip
    return rows


def quality_table(n: int, seed: int = 0, *, domain: Domain = "B") -> list[dict[str, Any]]:
    """Coverage against error of the shipped predictor on people it was not fitted on."""
    annotator, predictors = Annotator(load_body()), load_predictors()
    people = draw_people(annotator.body, n, domain=domain, seed=seed)
    rows = []
    for mode, noise in (
        ("strong-2d", METRIC),
        ("deposer-keypoint", AFFINE),
        ("deposer-dense", METRIC),
    ):
        run = run_mode(annotator, people, observe(annotator.body, people, noise, seed=seed), mode)
        error = run.scores["mpjpe_mm"]
        predicted = predictors[mode].predict_mm(run.signals)
        curve = coverage_curve(predicted, error)
        rows.append(
            {
                "mode": mode, "n": n, "domain": domain, "seed": seed,
                "coverage": [[share, round(mm, 2)] for share, mm in curve],
                "best_75_change": round(dict(curve)[0.75] / float(error.mean()) - 1, 4),
                "predicted_mm": round(float(predicted.mean()), 2),
                "true_mm": round(float(error.mean()), 2),
            }
        )  # fmt: skip
    return rows


def fit_shipped_predictors(n: int = 768, seed: int = 7) -> None:
    """Writes the shipped error predictors, fitted on domain A's validation people."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, n, domain="A", split="validation", seed=seed)
    found = {}
    for mode, noise in (
        ("strong-2d", METRIC),
        ("deposer-keypoint", AFFINE),
        ("deposer-dense", METRIC),
    ):
        run = run_mode(annotator, people, observe(annotator.body, people, noise, seed=seed), mode)
        found[mode] = fit_predictor(run.signals, run.scores["mpjpe_mm"].astype(np.float64))
    save_predictors(ASSET, found)


def measure(repeats: int) -> list[dict[str, Any]]:
    """Speed of the solver: a batch of 32, one refit, one-by-one L-BFGS on the same objective."""
    annotator = Annotator(load_body())
    people = draw_people(annotator.body, BATCH, domain="B")
    seen = observe(annotator.body, people, METRIC)
    figures = []
    for mode in MODES:
        ms = [_milliseconds(lambda m=mode: annotator.fit(seen, MODES[m])) for _ in range(repeats)]
        figures.append((f"{mode}, ms an image at batch {BATCH}", min(ms) / BATCH, "ms", "<= 60"))
    single = seen.take(slice(0, 1))
    held = annotator.fit(single, MODES["deposer-dense"])
    ms = [_milliseconds(lambda: refit(annotator, single, held)) for _ in range(repeats)]
    figures.append(("one interactive refit", min(ms), "ms", "<= 300"))
    ratio, gap = against_lbfgs(annotator, seen, 4)
    figures.append(("one-by-one L-BFGS over ours, time", ratio, "x", ">= 30"))
    figures.append(("our robust energy over that of L-BFGS", gap, "x", "<= 1"))
    return [
        {"figure": f, "value": round(v, 3), "unit": unit, "target": target}
        for f, v, unit, target in figures
    ]


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def refit(annotator: Annotator, observations: Observations, held: Fit) -> Fit:
    """What one drag of a keypoint costs: the refining stages from the fit at hand."""
    return refine(annotator, observations, MODES["deposer-dense"], held.state)


def against_lbfgs(annotator: Annotator, seen: Observations, count: int) -> tuple[float, float]:
    """Time of one-by-one L-BFGS over ours, and our mean energy over its, keypoint mode.

    Both run the same stages from the same four starts on the same robust energy; L-BFGS has strong
    Wolfe line search, rate 1, at most 30 iterations a stage, as SMPLify-X sets it.
    """
    mode = MODES["deposer-keypoint"]
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
        free, lr=1.0, max_iter=30, tolerance_grad=1e-9, tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = energy(objective.terms(build(), weights, matches=None, derive=False)[0]).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        done = State(*(value.detach() for value in build()))
        cost = energy(objective.terms(done, weights, matches=None, derive=False)[0])
    return done, float(cost)
