"""Sparse joint regressors: joints as convex combinations of vertices around them.

Fitted by non-negative least squares with rows that sum to 1, over shapes and poses.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.optimize import nnls

SUM_WEIGHT = 10.0
WEIGHT_STEP = 2.0**-13


def fit_row(
    vertices: Float[ndarray, "bodies vertices 3"],
    target: Float[ndarray, "bodies 3"],
    pool: Int[ndarray, " pool"],
) -> Float[ndarray, " vertices"]:
    """The row of a regressor that best gives `target` from the vertices of the pool."""
    local = vertices[:, pool].astype(np.float64)
    center = local.mean(axis=1, keepdims=True)
    columns = (local - center).transpose(0, 2, 1).reshape(-1, len(pool))
    wanted = (target - center[:, 0]).reshape(-1)
    columns = np.concatenate([columns, np.full((1, len(pool)), SUM_WEIGHT)])
    wanted = np.concatenate([wanted, [SUM_WEIGHT]])
    row = np.zeros(vertices.shape[1])
    row[pool] = nnls(columns, wanted)[0]
    return row / row.sum()


def pick_pool(
    points: Float[ndarray, "vertices 3"],
    joint: Float[ndarray, " 3"],
    allowed: Bool[ndarray, " vertices"],
    size: int,
    generator: np.random.Generator,
) -> Int[ndarray, " pool"]:
    """At most `size` of the allowed vertices, drawn from the four times as many nearest ones."""
    candidates = np.flatnonzero(allowed)
    order = np.argsort(np.linalg.norm(points[candidates] - joint, axis=1), kind="stable")
    near = candidates[order[: 4 * size]]
    return np.sort(generator.choice(near, min(size, len(near)), replace=False))


def symmetric(
    regressor: Float[ndarray, "joints vertices"],
    joint_mirror: tuple[int, ...],
    vertex_mirror: Int[ndarray, " vertices"],
) -> Float[ndarray, "joints vertices"]:
    """The regressor averaged with its mirror image."""
    return (regressor + regressor[list(joint_mirror)][:, vertex_mirror]) / 2


def rounded(regressor: Float[ndarray, "joints vertices"]) -> Float[ndarray, "joints vertices"]:
    """Rows as multiples of 2^-13 that sum to 1 exactly in float32."""
    table = np.round(regressor / WEIGHT_STEP) * WEIGHT_STEP
    rows = np.arange(len(table))
    table[rows, regressor.argmax(axis=1)] += 1.0 - table.sum(axis=1)
    return table
