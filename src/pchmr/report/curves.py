"""Curves of a comparison against its three budgets: rounds, images trained on, bytes moved."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy import stats

from pchmr.report.comparison import curve_of, error_of, first_of_id, of_id
from pchmr.report.crossed import CONFIDENCE
from pchmr.report.figures import INK, STYLE, as_it_is
from pchmr.results import AVERAGED, BEFORE, CENTRALIZED, ResultRow

HEADROOM = 1.25  # of a frame, over the error of the start weights
DASHES = ("-", ":", "-.")
BUDGETS = ("rounds or epochs", "images trained on", "bytes moved")
HEIGHT, LINE = 3.2, 0.19  # inches without a legend, and of a line of it
LONG_NAME = 45  # letters; three columns of such names leave no room for the panels
INK_ON_PAPER = "#444444"  # reads on light and on dark pages alike
PALETTE = ("#4c8bd6", "#e0803c", "#4fa06b", "#b0569c", "#c9a227", "#7a6fd0", "#d0605e", "#5aa7b5")


@dataclass(frozen=True)
class MeanCurve:
    """The mean of a row's curves over its seeds.

    Attributes:
        id: Of the row.
        label: Of the row, for the legend.
        points: Rounds or epochs, images, bytes, MPJPE in mm.
        half_width: Of the 95 % interval of each mean error, mm; 0 for a single seed.
    """

    id: str
    label: str
    points: Float[np.ndarray, "points 4"]
    half_width: Float[np.ndarray, " points"]

    @classmethod
    def of(cls, rows: Sequence[ResultRow], before: ResultRow | None) -> "MeanCurve":
        """The mean as far as the shortest of the curves reaches."""
        curves = [np.array(curve_of(row, before), dtype=float).reshape(-1, 4) for row in rows]
        shortest = min(map(len, curves))
        stack = np.stack([curve[:shortest] for curve in curves])
        half_width = np.zeros(shortest)
        if len(stack) > 1:
            spread = stack[..., 3].std(axis=0, ddof=1) / len(stack) ** 0.5
            half_width = spread * stats.t.ppf(0.5 + CONFIDENCE / 2, len(stack) - 1)
        return cls(rows[0].id, rows[0].label, stack.mean(axis=0), half_width)

    def leaves(self, top: float) -> bool:
        """Whether an error is above the frame."""
        return bool((self.points[:, 3] > top).any())


def budget_curves(title: str, rows: list[ResultRow]) -> bytes:
    """An SVG with one panel a budget; depends on the rows alone.

    A row is the mean over its seeds, in a band of the mean's 95 % interval where there are several.
    The frame ends a little above the start weights; the legend tells which curves leave it.
    """
    before = first_of_id(rows, BEFORE)
    own = [row for row in rows if row.curve and row.kind != AVERAGED]
    names = dict.fromkeys(row.id for row in own)
    curves = [MeanCurve.of(list(of_id(own, name).values()), before) for name in names]
    top = HEADROOM * (error_of(before) or np.inf)
    style: dict[Any, Any] = {
        key: INK_ON_PAPER if value == INK else value for key, value in STYLE.items()
    }
    with rc_context(style):
        figure = Figure(figsize=(12, HEIGHT), layout="constrained")
        panels = list(figure.subplots(1, len(BUDGETS), sharey=True))
        for place, axes in enumerate(panels):
            _draw(axes, place, curves, top)
        _scale(panels)
        if any(curve.leaves(top) for curve in curves):
            panels[0].set_ylim(top=top)
        figure.suptitle(as_it_is(title), fontsize=11)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        num_columns = 3 if max(map(len, handles), default=0) < LONG_NAME else 2
        figure.set_figheight(HEIGHT + LINE * math.ceil(len(handles) / num_columns))
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=num_columns,
            frameon=False,
            fontsize=9,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(axes: Axes, place: int, curves: list[MeanCurve], top: float) -> None:
    """Every curve against one budget."""
    for index, curve in enumerate(curves):
        points = curve.points
        shown = (points[:, 2] > 0) if place == 2 else np.full(len(points), True)
        x, y, h = points[shown, place], points[shown, 3], curve.half_width[shown]
        color = PALETTE[index % len(PALETTE)]
        own_dash = DASHES[index // len(PALETTE) % len(DASHES)]
        dash = "--" if curve.id == CENTRALIZED else own_dash
        said = f"{curve.label} (leaves the frame)" if curve.leaves(top) else curve.label
        axes.plot(x, y, dash, color=color, marker="o", markersize=3, label=as_it_is(said))
        axes.fill_between(x, y - h, y + h, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel(BUDGETS[place])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)


def _scale(panels: Sequence[Axes]) -> None:
    """Scales on which the first rounds and the first bytes can be told apart."""
    panels[0].set_xscale("symlog")
    panels[0].set_xlim(left=-0.2)  # room for the marker at 0; the scale itself would go on below
    panels[1].xaxis.set_major_locator(MaxNLocator(5))
    panels[2].set_xscale("log")
    panels[2].xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("MPJPE (mm)")
