"""Curves as inline SVG that takes the page's text color, so it reads on light and dark paper."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pchmr.report.headline import Difference
from pchmr.report.records import EVALUATION, SCORES, RunRecord
from pchmr.report.tables import BASELINES, Comparison, variant_labels
from pchmr.results import CENTRALIZED, FEDERATED

# A hue for each paradigm that both themes carry; variants of one paradigm differ in their dashes.
COLORS = {CENTRALIZED: "#4c8bd6", FEDERATED: "#e0803c"}
OTHER_COLOR = "#8a78c8"
BASELINE_COLOR = "#8d939c"
DASHES = ("-", "--", ":", "-.")
BASELINE_DASHES = {"mean_pose": (0, (6, 3)), "t_pose": (0, (2, 2))}
CURVED = ("mpjpe_mm", "pa_mpjpe_mm")
AIR = 0.35  # of what the runs span: shown below and above them
LEAST_SPAN_MM = 4.0  # a smaller difference is drawn small
UNLISTED = "_"  # matplotlib leaves such labels out of the legend
# Matplotlib writes this literally; the page then puts its own text color there.
INK, INK_TOKEN = "#010203", "currentColor"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pchmr",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def as_it_is(words: str) -> str:
    """Words in which a dollar sign begins no formula."""
    return words.replace("$", r"\$")


@dataclass(frozen=True)
class Curve:
    """An inline SVG, what it shows in words, and the numbers behind it."""

    title: str
    svg: str
    description: str


@dataclass(frozen=True)
class RunLine:
    """One run's score over its rounds or epochs."""

    label: str
    color: str
    dash: str
    points: list[tuple[float, float]]


def curves(comparison: Comparison) -> list[Curve]:
    """A curve for each score of `CURVED` that some run recorded more than once."""
    drawn = []
    for score in CURVED:
        lines = _lines(comparison.records, score)
        if any(len(line.points) > 1 for line in lines):
            drawn.append(_curve(comparison, score, lines))
    return drawn


def _lines(records: list[RunRecord], score: str) -> list[RunLine]:
    """A line for every trained run; seeds of one variant share their look and one label."""
    labels, lines = variant_labels(records), []
    looks: dict[str, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    for record in records:
        points = record.points(score)
        if record.kind == EVALUATION or not points:
            continue
        label = ""
        if record.variant not in looks:
            label = labels[record.variant]
            dash = DASHES[counts[record.kind] % len(DASHES)]
            looks[record.variant] = (COLORS.get(record.kind, OTHER_COLOR), dash)
            counts[record.kind] += 1
        lines.append(RunLine(label, *looks[record.variant], points))
    return lines


def _curve(comparison: Comparison, score: str, lines: list[RunLine]) -> Curve:
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            axes.plot(
                *zip(*line.points, strict=True),
                line.dash,
                color=line.color,
                marker="o",
                markersize=3.5,
                linewidth=1.8,
                label=as_it_is(line.label) or UNLISTED,
            )
        low, high = _range_that_matters(lines)
        for row, name in zip(comparison.rows, BASELINES, strict=False):
            held = row.scores.get(score)
            if held is not None and low <= held.mean <= high:
                dash = BASELINE_DASHES[name]
                axes.axhline(
                    held.mean, color=BASELINE_COLOR, linewidth=1.2, linestyle=dash, label=row.label
                )
        _dress(axes, score)
        axes.set_ylim(low, high)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    ends = "; ".join(
        f"{line.label} from {line.points[0][1]:.1f} to {line.points[-1][1]:.1f} mm"
        for line in lines
        if line.label
    )
    title = f"{SCORES[score]} per round or epoch"
    return Curve(title, _inline(buffer.getvalue()), f"{title}: {ends}")


def _range_that_matters(lines: list[RunLine]) -> tuple[float, float]:
    """What the runs span, with air; baselines far away would hide the differences."""
    values = [value for line in lines for _, value in line.points]
    span = max(max(values) - min(values), LEAST_SPAN_MM)
    return max(min(values) - AIR * span, 0.0), max(values) + AIR * span


def difference_bars(found: Sequence[Difference]) -> Curve:
    """Every row against centralized training: mean and 95 % interval in mm, zero marked."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4, 0.7 + 0.45 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(found):
            color = OTHER_COLOR if row.is_chance else COLORS[FEDERATED]
            axes.plot(row.found.interval, [place, place], color=color, linewidth=3)
            axes.plot(row.found.value, place, marker="o", color=color, markersize=7)
        axes.axvline(0, color=INK, linewidth=1, alpha=0.6)
        axes.set_yticks(range(len(found)), [as_it_is(row.label) for row in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel("MPJPE above centralized (mm)")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    told = "; ".join(f"{row.label} {row.found} mm" for row in found)
    title = "Difference to centralized, 95 % intervals"
    return Curve(title, _inline(buffer.getvalue()), f"{title}: {told}")


def _dress(axes: Axes, score: str) -> None:
    axes.set_xlabel("round or epoch")
    axes.set_ylabel(f"{SCORES[score]} (mm)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_alpha(0.5)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.legend(
        frameon=False,
        fontsize=9.5,
        ncols=4,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        handlelength=1.6,
        columnspacing=1.2,
    )


def _inline(svg: str) -> str:
    """The bare <svg> element, in the page's own ink and font."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = body.replace(INK, INK_TOKEN)
    return body.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
