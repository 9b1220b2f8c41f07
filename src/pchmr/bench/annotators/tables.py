"""Rows of `results/annotators.jsonl`: errors, ratios to `strong-2d`, depth noise, coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypedDict

import numpy as np

from pchmr.annotate.quality import coverage_curve, load_predictors
from pchmr.bench.annotators.oracle import OracleNoise
from pchmr.bench.annotators.scores import FAILURE_MM, SCORES, Run, interval
from pchmr.results import MEASURED, VALUE, Number, ResultRow, Target, slug

METRIC = OracleNoise()
AFFINE = OracleNoise(depth_kind="affine", depth_smooth=0.05)
STRONG, KEYPOINT, DENSE = "strong-2d", "deposer-keypoint", "deposer-dense"
DEPTH_NOISES_CM = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0)
KEPT = 0.75
NAMES = {
    "mpjpe_mm": "MPJPE",
    "pa_mpjpe_mm": "PA-MPJPE",
    "mpvpe_mm": "MPVPE",
    "foot_mm": "foot",
    "hand_mm": "hand",
    "mrpe_mm": "MRPE",
}
Crowd = Literal["matched", "clothes", "strangers"]


@dataclass(frozen=True, kw_only=True)
class About:
    """What every row of a table says: the seed, how many people, in place of whom."""

    seed: int
    n: int | None = None
    differs: str | None = None


class Harder(TypedDict, total=False):
    """Settings of `OracleNoise` that make a setting harder."""

    swap_share: float
    truncated_share: float


SWAPS: Harder = {"swap_share": 0.05}
CUT: Harder = {"truncated_share": 0.3}


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A line of the table.

    Attributes:
        setting: What the people and the observations are like; `strong-2d` of the same setting is
            what a line is held against.
        crowd: Who is annotated: domain B, domain B in 2 cm of clothes, or Anny's own people.
        mode: One of `FITTERS`.
        depth: What the mode is given of depth.
        noise: Of the observations.
        targets: Largest ratio to `strong-2d` by score.
    """

    setting: str
    crowd: Crowd = "matched"
    mode: str
    depth: str = "none"
    noise: OracleNoise
    targets: Mapping[str, float] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        """Name of the line."""
        depth = "" if self.depth == "none" else f", {self.depth}"
        return f"{self.setting}: {self.mode}{depth}"


ERRORS: tuple[str, ...] = ("mpvpe_mm", "mpjpe_mm", "pa_mpjpe_mm")


def _three(
    setting: str, crowd: Crowd, most: float | None, harder: Harder | None = None
) -> tuple[Case, ...]:
    """`strong-2d` and the two depth modes in one setting."""
    targets = {} if most is None else dict.fromkeys(ERRORS, most)
    metric, affine = replace(METRIC, **(harder or {})), replace(AFFINE, **(harder or {}))
    flat = Case(setting=setting, crowd=crowd, mode=STRONG, noise=metric)
    deep = replace(flat, targets=targets)
    return (
        flat,
        replace(deep, mode=KEYPOINT, depth="affine 5 cm", noise=affine),
        replace(deep, mode=DENSE, depth="metric 2 cm"),
    )


def _matched(
    mode: str,
    depth: str = "none",
    noise: OracleNoise = METRIC,
    targets: Mapping[str, float] | None = None,
) -> Case:
    return Case(setting="matched", mode=mode, depth=depth, noise=noise, targets=targets or {})


CASES: tuple[Case, ...] = (
    _matched("smplifyx"),
    _matched("smplifyx-given-focal"),
    _matched(STRONG),
    _matched(KEYPOINT, "affine 5 cm", AFFINE, dict.fromkeys(ERRORS, 0.8)),
    _matched(KEYPOINT, "affine 10 cm", replace(AFFINE, depth_smooth=0.1)),
    _matched(KEYPOINT, "metric 2 cm"),
    _matched(
        DENSE,
        "metric 2 cm",
        targets={**dict.fromkeys(ERRORS, 0.6), "foot_mm": 0.65, "hand_mm": 0.65},
    ),
    *_three("2 cm of clothes", "clothes", None),
    *_three("30 % truncated", "matched", None, CUT),
    *_three("5 % left-right swaps", "matched", None, SWAPS),
    *_three("Anny itself", "strangers", None),
    *_three("Anny itself, clothes, truncation, swaps", "strangers", 0.85, {**CUT, **SWAPS}),
)
CLOTHED = ("2 cm of clothes", "Anny itself, clothes, truncation, swaps")


CURVE = "depth noise"


def curve_cases() -> tuple[Case, ...]:
    """`strong-2d`, then both depth modes at every amount of depth noise."""
    flat = Case(setting=CURVE, mode=STRONG, noise=METRIC)
    return flat, *(
        replace(
            flat,
            mode=mode,
            depth=f"{noise.depth_kind} {cm:g} cm",
            noise=replace(noise, depth_smooth=cm / 100),
        )
        for mode, noise in ((KEYPOINT, AFFINE), (DENSE, METRIC))
        for cm in DEPTH_NOISES_CM
    )


def scores_row(
    table: str, label: str, scores: Mapping[str, Number | None], about: About
) -> ResultRow:
    """Several scores of one cell."""
    return ResultRow(
        id=slug(label),
        label=label,
        table=table,
        scores=scores,
        seed=about.seed,
        n=about.n,
        differs=about.differs,
    )


def error_row(case: Case, run: Run, about: About) -> ResultRow:
    """Means, half widths of their 95 % intervals, failures and time of a case."""
    scores: dict[str, Number | None] = {}
    intervals: dict[str, tuple[Number, ...]] = {}
    for name in SCORES:
        values = run.scores[name]
        if not np.isfinite(values).all():
            continue
        low, high = interval([values], lambda a: a)
        scores[name] = round(float(values.mean()), 2)
        intervals[name] = (round(low, 2), round(high, 2))
    scores["MPJPE ± (95 %)"] = round((intervals["mpjpe_mm"][1] - intervals["mpjpe_mm"][0]) / 2, 2)
    scores["over 150 mm, %"] = round(100 * failures(run), 2)
    scores["ms an image"] = round(run.ms_per_image, 1)
    row = scores_row("errors", case.cell, scores, about)
    return replace(row, intervals=intervals, noise=asdict(case.noise), unit="mm")


def failures(run: Run) -> float:
    """Share of people whose MPJPE is over 150 mm."""
    return float((run.scores["mpjpe_mm"] > FAILURE_MM).mean())


def ratio_rows(case: Case, run: Run, strong: Run, about: About) -> list[ResultRow]:
    """Every score over that of `strong-2d` on the same keypoints, with paired intervals."""
    rows = []
    for name in SCORES:
        pair = [run.scores[name], strong.scores[name]]
        if not np.isfinite(pair).all():
            continue
        between = interval(pair, lambda a, b: a / b)
        most = case.targets.get(name)
        label = f"{case.cell}, {NAMES[name]} over {STRONG}"
        ratio = float(pair[0].mean() / pair[1].mean())
        target = MEASURED if most is None else Target("<=", most)
        rows.append(figure(label, ratio, "x", target, about, table="ratios", between=between))
    if case.mode == DENSE and case.setting == "matched":
        label, share = f"{case.cell}, over 150 mm", 100 * failures(run)
        rows.append(figure(label, share, "%", Target("<=", 2), about, table="ratios"))
    return rows


def figure(
    label: str,
    value: float,
    unit: str,
    target: Target,
    about: About,
    *,
    table: str,
    between: tuple[float, float] | None = None,
) -> ResultRow:
    """One figure against its target, with its 95 % interval where there is one."""
    scores: dict[str, Number | None] = {VALUE: float(f"{value:.4g}")}
    if between is not None:
        scores |= {"95 % from": round(between[0], 4), "95 % to": round(between[1], 4)}
    return replace(scores_row(table, label, scores, about), unit=unit, target=target)


def curve_rows(runs: Sequence[tuple[Case, Run]], about: About) -> list[ResultRow]:
    """MPJPE at every depth noise, and where depth stops to pay; the first run is `strong-2d`."""
    flat = float(runs[0][1].scores["mpjpe_mm"].mean())
    rows: list[ResultRow] = []
    for mode in (KEYPOINT, DENSE):
        own = [(case, run) for case, run in runs if case.mode == mode]
        ratios = []
        for case, run in own:
            error = float(run.scores["mpjpe_mm"].mean())
            ratios.append(error / flat)
            scores = {"mpjpe_mm": round(error, 2), f"over {STRONG}": round(error / flat, 4)}
            rows.append(scores_row(CURVE, f"{mode}, {case.depth}", scores, about))
        stop = stops_paying(ratios)
        label = f"{mode}: smooth depth noise from which depth no longer pays, cm"
        value = DEPTH_NOISES_CM[-1] if stop is None else round(stop, 2)
        note = f"never up to {DEPTH_NOISES_CM[-1]:g} cm" if stop is None else ""
        row = scores_row(CURVE, label, {VALUE: value}, about)
        rows.append(replace(row, differs=note))
    return rows


def stops_paying(ratios: Sequence[float]) -> float | None:
    """Noise in cm at which the ratio first reaches 1, between measured points by a line."""
    for at, ratio in enumerate(ratios):
        if ratio >= 1:
            if at == 0:
                return DEPTH_NOISES_CM[0]
            low, high = DEPTH_NOISES_CM[at - 1 : at + 1]
            before = ratios[at - 1]
            return low + (high - low) * (1 - before) / (ratio - before)
    return None


def coverage_rows(
    runs: Mapping[str, Run], about: About, source: str = "", before: str = ""
) -> list[ResultRow]:
    """Mean error of the people that the shipped predictors think best, for growing shares.

    Args:
        runs: By mode.
        about: What every row says.
        source: Prefix of the predictors that were fitted for observations of this kind.
        before: Prefix of the rows' labels.
    """
    predictors = load_predictors()
    rows: list[ResultRow] = []
    for mode, run in runs.items():
        error = run.scores["mpjpe_mm"].astype(np.float64)
        predicted = predictors[f"{source}{mode}"].predict_mm(run.signals)
        curve = dict(coverage_curve(predicted, error))
        for share, mm in curve.items():
            label = f"{before}{mode}, best {share:.0%}"
            rows.append(scores_row("coverage", label, {"mpjpe_mm": round(mm, 2)}, about))
        order = np.argsort(predicted, kind="stable")
        chosen = np.zeros(len(order))
        chosen[order[: round(KEPT * len(order))]] = 1
        pair = [error * chosen, chosen, error]
        between = interval(pair, lambda kept, share, all_: 100 * (1 - kept / share / all_))
        target = Target(">=", 12 if mode == STRONG else 8)
        label = f"{before}{mode}: keeping the best {KEPT:.0%} lowers MPJPE by"
        gain = 100 * (1 - curve[KEPT] / float(error.mean()))
        rows.append(figure(label, gain, "%", target, about, table="coverage", between=between))
    return rows
