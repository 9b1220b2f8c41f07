"""Curves of a comparison against its three budgets: rounds, images trained on, bytes moved."""

import io
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy import stats

from pchmr.report.comparison import BEFORE, CENTRALIZED, CONFIDENCE, curve_of, error_of, of_cell
from pchmr.report.figures import INK, STYLE
from pchmr.report.lines import Line

SHARING = "averaged"  # kind of a row whose curve is that of another
EMPTY = np.zeros((0, 4))
HEADROOM = 1.25  # of a frame, over the error of the start weights
DASHES = ("-", ":", "-.")
BUDGETS = ("rounds or epochs", "images trained on", "bytes moved")
INK_ON_PAPER = "#444444"  # reads on light and on dark pages alike
PALETTE = ("#4c8bd6", "#e0803c", "#4fa06b", "#b0569c", "#c9a227", "#7a6fd0", "#d0605e", "#5aa7b5")


def budget_curves(title: str, lines: list[Line]) -> bytes:
    """An SVG with one panel a budget; depends on the lines alone.

    A row is the mean over its seeds, in a band of the mean's 95 % interval where there are several.
    The frame ends a little above the start weights; the legend tells which curves leave it.
    """
    before = next(iter(of_cell(lines, BEFORE).values()), None)
    own = [line for line in lines if line.get("curve") and line.get("kind") != SHARING]
    cells = {name: _mean_curve(list(of_cell(own, name).values()), before) for name in
             dict.fromkeys(str(line.get("cell")) for line in own)}  # fmt: skip
    top = HEADROOM * (error_of(before) or np.inf)
    style: dict[Any, Any] = {
        key: INK_ON_PAPER if value == INK else value for key, value in STYLE.items()
    }
    with rc_context(style):
        figure = Figure(figsize=(12, 3.8), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for place, axes in enumerate(panels):
            for index, (cell, (points, half)) in enumerate(cells.items()):
                shown = (points[:, 2] > 0) if place == 2 else np.full(len(points), True)
                x, y, h = points[shown, place], points[shown, 3], half[shown]
                color = PALETTE[index % len(PALETTE)]
                dash = "--" if cell == CENTRALIZED else DASHES[index // len(PALETTE) % len(DASHES)]
                said = f"{cell} (leaves the frame)" if (points[:, 3] > top).any() else cell
                axes.plot(x, y, dash, color=color, marker="o", markersize=3, label=said)
                axes.fill_between(x, y - h, y + h, color=color, alpha=0.2, linewidth=0)
            axes.set_xlabel(BUDGETS[place])
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.2)
        _scale(panels)
        if any((points[:, 3] > top).any() for points, _ in cells.values()):
            panels[0].set_ylim(top=top)
        figure.suptitle(title, fontsize=11)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3,
                      frameon=False, fontsize=9)  # fmt: skip
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _mean_curve(lines: list[Line], before: Line | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean points over the seeds, and the half width of each mean error's interval."""
    curves = [np.array(curve_of(line, before)) for line in lines]
    shortest = min((len(curve) for curve in curves), default=0)
    if not shortest:
        return EMPTY, EMPTY[:, 0]
    stack = np.stack([curve[:shortest] for curve in curves])
    half = np.zeros(shortest)
    if len(stack) > 1:
        spread = stack[..., 3].std(axis=0, ddof=1) / len(stack) ** 0.5
        half = spread * stats.t.ppf(0.5 + CONFIDENCE / 2, len(stack) - 1)
    return stack.mean(axis=0), half


def _scale(panels: Any) -> None:
    """Scales on which the first rounds and the first bytes can be told apart."""
    panels[0].set_xscale("symlog")
    panels[0].set_xlim(left=-0.2)  # room for the marker at 0; the scale itself would go on below
    panels[1].xaxis.set_major_locator(MaxNLocator(5))
    panels[2].set_xscale("log")
    panels[2].xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("MPJPE (mm)")
