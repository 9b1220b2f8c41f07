"""Curves of a comparison against its three budgets: rounds, images trained on, bytes moved."""

import io
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from pchmr.report.comparison import BEFORE, CENTRALIZED, curve_of, of_cell
from pchmr.report.figures import INK, STYLE
from pchmr.report.lines import Line

BUDGETS = ("rounds or epochs", "images trained on", "bytes moved")
INK_ON_PAPER = "#444444"  # reads on light and on dark pages alike
PALETTE = ("#4c8bd6", "#e0803c", "#4fa06b", "#b0569c", "#c9a227", "#7a6fd0", "#d0605e", "#5aa7b5")


def budget_curves(title: str, lines: list[Line]) -> bytes:
    """An SVG with one panel a budget, seeds of a row in one color; depends on the lines alone."""
    before = next(iter(of_cell(lines, BEFORE).values()), None)
    cells = dict.fromkeys(str(line.get("cell")) for line in lines)
    drawn = [c for c in cells if any(line.get("curve") for line in of_cell(lines, c).values())]
    style: dict[Any, Any] = {
        key: INK_ON_PAPER if value == INK else value for key, value in STYLE.items()
    }
    with rc_context(style):
        figure = Figure(figsize=(12, 3.6), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for place, axes in enumerate(panels):
            for index, cell in enumerate(drawn):
                color = PALETTE[index % len(PALETTE)]
                dash = "--" if cell == CENTRALIZED else "-"
                for line in of_cell(lines, cell).values():
                    points = [p for p in curve_of(line, before) if place != 2 or p[2] > 0]
                    axes.plot([p[place] for p in points], [p[3] for p in points], dash,
                              color=color, marker="o", markersize=3, label=cell)  # fmt: skip
            axes.set_xlabel(BUDGETS[place])
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.2)
        panels[0].set_xscale("symlog")
        panels[2].set_xscale("log")
        panels[0].set_ylabel("MPJPE (mm)")
        figure.suptitle(title, fontsize=11)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4,
                      frameon=False, fontsize=9)  # fmt: skip
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
