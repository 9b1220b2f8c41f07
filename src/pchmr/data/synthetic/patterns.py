"""Procedural patterns: cloth, floors and walls without picture files.

A pattern is a weight in [0, 1] at a point whose coordinates are counted in periods: how much of
the second color shows there. Edges are as wide as a pixel's footprint and patterns finer than a
pixel fade into their mean, so nothing flickers in the distance. Only exact arithmetic is used (no
sine, no table), so that a picture does not depend on the batch it was drawn in.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

PATTERNS = {
    "plain": 0,
    "rows": 1,
    "columns": 2,
    "checker": 3,
    "noise": 4,
    "dots": 5,
    "tiles": 6,
    "planks": 7,
    "bricks": 8,
}
"""Name to number. Plain has weight 0; rows vary along y, columns along x, checker in all three."""

_DOT_RADIUS = 0.3
_JOINT = 0.03  # half width of grout and mortar, periods


def pattern_weight(
    kind: Int[Tensor, " points"],
    points: Float[Tensor, "3 points"],
    footprint: Float[Tensor, " points"],
) -> Float[Tensor, " points"]:
    """Weight of the second color at each point.

    Args:
        kind: Value of `PATTERNS`; each point has its own.
        points: Coordinates in periods.
        footprint: Size of the pixel at the point, in periods.
    """
    weight = torch.zeros_like(footprint)
    order = kind.to(torch.uint8).argsort(stable=True)
    ends = torch.bincount(kind, minlength=len(PATTERNS)).cumsum(0).tolist()
    for name, draw in _DRAW.items():
        rows = order[ends[PATTERNS[name] - 1] : ends[PATTERNS[name]]]
        if len(rows):
            x, y, z = (axis.index_select(0, rows) for axis in points)
            size = footprint.index_select(0, rows).clamp_min(1e-4)
            weight.index_copy_(0, rows, draw(x, y, z, size))
    return weight


def _fraction(t: Tensor) -> Tensor:
    return t - t.floor()


def _edge(distance: Tensor, size: Tensor) -> Tensor:
    """Covered share of a pixel whose center lies `distance` inside an edge."""
    return (distance / size + 0.5).clamp(0, 1)


def _faded(weight: Tensor, mean: float, size: Tensor) -> Tensor:
    return mean + (weight - mean) * (1.6 - 1.2 * size).clamp(0, 1)


def _band(t: Tensor, size: Tensor) -> Tensor:
    """1 on half of each period, 0 on the other half."""
    return _edge(0.25 - (_fraction(t) - 0.5).abs(), size)


def wave(t: Tensor) -> Tensor:
    """A smooth wave in [-1, 1] of period 1, two parabolas for a sine."""
    u = _fraction(t) - 0.5
    return 8 * u * (1 - 2 * u.abs())


def _shade(column: Tensor, row: Tensor) -> Tensor:
    """A number in [0, 1) per cell that looks drawn at random."""
    first = _fraction(column * 0.7548777 + row * 0.5698403)
    return _fraction(first * (first * 31.7 + 17.3))


def _rim(t: Tensor) -> Tensor:
    """Distance to the nearest whole number."""
    u = _fraction(t)
    return u.minimum(1 - u)


def _rows(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    return _faded(_band(y, size), 0.5, size)


def _columns(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    return _faded(_band(x, size), 0.5, size)


def _checker(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    weight = _band(x, size)
    for axis in (y, z):
        other = _band(axis, size)
        weight = weight + other - 2 * weight * other
    return _faded(weight, 0.5, size)


def _noise(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    warp = wave(0.37 * y + 0.71 * z) + wave(0.53 * x - 0.29 * y + 0.4)
    coarse = wave(0.61 * x + 0.33 * z + 0.3 * warp) + wave(0.47 * y - 0.38 * x + 0.25 * warp)
    fine = wave(1.73 * x - 1.31 * y + 0.5 * warp) * wave(1.57 * z + 1.91 * y + 1.1 * x)
    return _faded((0.5 + 0.2 * coarse + 0.2 * fine).clamp(0, 1), 0.5, size)


def _dots(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    u, v = _fraction(x) - 0.5, _fraction(y) - 0.5
    weight = _edge(_DOT_RADIUS - (u * u + v * v).sqrt(), size)
    return _faded(weight, torch.pi * _DOT_RADIUS**2, size)


def _joints(distance: Tensor, tone: Tensor, size: Tensor) -> Tensor:
    """Thin lines at weight 1 between cells of slightly different weight."""
    line = _edge(_JOINT - distance, size) * (2 * _JOINT / size).clamp(max=1)
    return _faded(line + (1 - line) * 0.3 * tone, 0.2, size)


def _tiles(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    return _joints(_rim(x).minimum(_rim(y)), _shade(x.floor(), y.floor()), size)


def _planks(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    along = y / 7 + _shade(x.floor(), torch.zeros_like(x))
    tone = 2 * _shade(x.floor(), along.floor())
    return _joints((0.6 * _rim(x)).minimum(7 * _rim(along)), tone, size)


def _bricks(x: Tensor, y: Tensor, z: Tensor, size: Tensor) -> Tensor:
    course = (3 * y).floor()
    across = x + 0.5 * course
    rim = _rim(across).minimum(_rim(3 * y) / 3)
    return _joints(rim, _shade(across.floor(), course), size)


_DRAW: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "rows": _rows,
    "columns": _columns,
    "checker": _checker,
    "noise": _noise,
    "dots": _dots,
    "tiles": _tiles,
    "planks": _planks,
    "bricks": _bricks,
}
