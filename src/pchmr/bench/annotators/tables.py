"""Rows of `results/annotators.jsonl`: errors, ratios to `strong-2d`, depth noise, coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pchmr.annotate.quality import coverage_curve, load_predictors
from pchmr.bench.annotators.oracle import OracleNoise
from pchmr.bench.annotators.scores import FAILURE_MM, SCORES, Run, interval

METRIC = OracleNoise()
AFFINE = OracleNoise(depth_kind="affine", depth_smooth=0.05)
SWAPS = {"swap_share": 0.05}
CUT = {"truncated_share": 0.3}
STRONG, KEYPOINT, DENSE = "strong-2d", "deposer-keypoint", "deposer-dense"
DEPTH_NOISES_CM = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0)
KEPT = 0.75
NAMES = {"mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "mpvpe_mm": "MPVPE",
         "foot_mm": "foot", "hand_mm": "hand"}  # fmt: skip
Crowd = Literal["matched", "clothes", "strangers"]

Row = dict[str, Any]


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


def _three(setting: str, crowd: Crowd, most: float | None, **harder: Any) -> tuple[Case, ...]:
    """`strong-2d` and the two depth modes in one setting."""
    targets = {} if most is None else dict.fromkeys(ERRORS, most)
    common: dict[str, Any] = {"setting": setting, "crowd": crowd}
    metric, affine = replace(METRIC, **harder), replace(AFFINE, **harder)
    return (
        Case(**common, mode=STRONG, noise=metric),
        Case(**common, mode=KEYPOINT, depth="affine 5 cm", noise=affine, targets=targets),
        Case(**common, mode=DENSE, depth="metric 2 cm", noise=metric, targets=targets),
    )


CASES: tuple[Case, ...] = (
    Case(setting="matched", mode="smplifyx", noise=METRIC),
    Case(setting="matched", mode="smplifyx-given-focal", noise=METRIC),
    Case(setting="matched", mode=STRONG, noise=METRIC),
    Case(
        setting="matched", mode=KEYPOINT, depth="affine 5 cm", noise=AFFINE,
        targets=dict.fromkeys(ERRORS, 0.8),
    ),
    Case(
        setting="matched", mode=KEYPOINT, depth="affine 10 cm",
        noise=replace(AFFINE, depth_smooth=0.1),
    ),
    Case(setting="matched", mode=KEYPOINT, depth="metric 2 cm", noise=METRIC),
    Case(
        setting="matched", mode=DENSE, depth="metric 2 cm", noise=METRIC,
        targets={**dict.fromkeys(ERRORS, 0.6), "foot_mm": 0.65, "hand_mm": 0.65},
    ),
    *_three("2 cm of clothes", "clothes", None),
    *_three("30 % truncated", "matched", None, **CUT),
    *_three("5 % left-right swaps", "matched", None, **SWAPS),
    *_three("Anny itself", "strangers", None),
    *_three("Anny itself, clothes, truncation, swaps", "strangers", 0.85, **CUT, **SWAPS),
)  # fmt: skip
CLOTHED = ("2 cm of clothes", "Anny itself, clothes, truncation, swaps")


CURVE = "depth noise"


def curve_cases() -> tuple[Case, ...]:
    """`strong-2d`, then both depth modes at every amount of depth noise."""
    flat = Case(setting=CURVE, mode=STRONG, noise=METRIC)
    return flat, *(
        Case(
            setting=CURVE, mode=mode, depth=f"{noise.depth_kind} {cm:g} cm",
            noise=replace(noise, depth_smooth=cm / 100),
        )
        for mode, noise in ((KEYPOINT, AFFINE), (DENSE, METRIC))
        for cm in DEPTH_NOISES_CM
    )  # fmt: skip


def error_row(case: Case, run: Run, about: Row) -> Row:
    """Means, half widths of their 95 % intervals, failures and time of a case."""
    scores: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for name in SCORES:
        values = run.scores[name]
        low, high = interval([values], lambda a: a)
        scores[name] = round(float(values.mean()), 2)
        intervals[name] = [round(low, 2), round(high, 2)]
    scores["MPJPE ± (95 %)"] = round((intervals["mpjpe_mm"][1] - intervals["mpjpe_mm"][0]) / 2, 2)
    scores["over 150 mm, %"] = round(100 * failures(run), 2)
    scores["ms an image"] = round(run.ms_per_image, 1)
    return {
        "table": "errors", "cell": case.cell, **about, "scores": scores, "intervals": intervals,
        "noise": asdict(case.noise), "unit": "mm",
    }  # fmt: skip


def failures(run: Run) -> float:
    """Share of people whose MPJPE is over 150 mm."""
    return float((run.scores["mpjpe_mm"] > FAILURE_MM).mean())


def ratio_rows(case: Case, run: Run, strong: Run, about: Row) -> list[Row]:
    """Every score over that of `strong-2d` on the same keypoints, with paired intervals."""
    rows = []
    for name in SCORES:
        pair = [run.scores[name], strong.scores[name]]
        low, high = interval(pair, lambda a, b: a / b)
        target = case.targets.get(name)
        rows.append(
            figure(
                f"{case.cell}, {NAMES[name]} over {STRONG}", float(pair[0].mean() / pair[1].mean()),
                "x", "measured" if target is None else f"<= {target}", about, table="ratios",
                between=(low, high),
            )
        )  # fmt: skip
    if case.mode == DENSE and case.setting == "matched":
        share = 100 * failures(run)
        rows.append(figure(f"{case.cell}, over 150 mm", share, "%", "<= 2", about, table="ratios"))
    return rows


def figure(
    name: str,
    value: float,
    unit: str,
    target: str,
    about: Row,
    *,
    table: str,
    between: tuple[float, float] | None = None,
) -> Row:
    """One figure against its target, with its 95 % interval where there is one."""
    scores = {"value": float(f"{value:.4g}")}
    if between is not None:
        scores |= {"95 % from": round(between[0], 4), "95 % to": round(between[1], 4)}
    return {"table": table, "figure": name, **about, "scores": scores, "unit": unit,
            "target": target}  # fmt: skip


def curve_rows(runs: Sequence[tuple[Case, Run]], about: Row) -> list[Row]:
    """MPJPE at every depth noise, and where depth stops to pay; the first run is `strong-2d`."""
    flat = float(runs[0][1].scores["mpjpe_mm"].mean())
    rows: list[Row] = []
    for mode in (KEYPOINT, DENSE):
        own = [(case, run) for case, run in runs if case.mode == mode]
        ratios = []
        for case, run in own:
            error = float(run.scores["mpjpe_mm"].mean())
            ratios.append(error / flat)
            scores = {"mpjpe_mm": round(error, 2), f"over {STRONG}": round(error / flat, 4)}
            rows.append({"table": "depth noise", "cell": f"{mode}, {case.depth}", **about,
                         "scores": scores})  # fmt: skip
        stop = stops_paying(ratios)
        note = f"never up to {DEPTH_NOISES_CM[-1]:g} cm" if stop is None else ""
        rows.append(
            {
                "table": "depth noise", "figure": f"{mode}: smooth depth noise from which depth no "
                "longer pays, cm", **about,
                "scores": {"value": DEPTH_NOISES_CM[-1] if stop is None else round(stop, 2)},
                "differs": note,
            }
        )  # fmt: skip
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


def coverage_rows(runs: Mapping[str, Run], about: Row, source: str = "") -> list[Row]:
    """Mean error of the people that the shipped predictors think best, for growing shares.

    Args:
        runs: By mode.
        about: What every row says.
        source: Prefix of the predictors that were fitted for observations of this kind.
    """
    predictors = load_predictors()
    rows: list[Row] = []
    for mode, run in runs.items():
        error = run.scores["mpjpe_mm"].astype(np.float64)
        predicted = predictors[f"{source}{mode}"].predict_mm(run.signals)
        curve = dict(coverage_curve(predicted, error))
        for share, mm in curve.items():
            scores = {"mpjpe_mm": round(mm, 2)}
            rows.append({"table": "coverage", "cell": f"{mode}, best {share:.0%}", **about,
                         "scores": scores})  # fmt: skip
        order = np.argsort(predicted, kind="stable")
        chosen = np.zeros(len(order))
        chosen[order[: round(KEPT * len(order))]] = 1
        pair = [error * chosen, chosen, error]
        between = interval(pair, lambda kept, share, all_: 100 * (1 - kept / share / all_))
        target = ">= 12" if mode == STRONG else ">= 8"
        rows.append(
            figure(
                f"{mode}: keeping the best {KEPT:.0%} lowers MPJPE by",
                100 * (1 - curve[KEPT] / float(error.mean())), "%", target, about,
                table="coverage", between=between,
            )
        )  # fmt: skip
    return rows
