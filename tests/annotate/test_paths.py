"""Paths of joints: what feet that stand say of the whole body."""

import numpy as np
import torch

from pchmr.annotate.keypoints import FOOT_POINTS, LABEL_POINTS
from pchmr.annotate.paths import smooth_path

TIMES = np.arange(50) / 25
FEET = [LABEL_POINTS.index(point) for point in FOOT_POINTS]


def drifting() -> np.ndarray:
    """Somebody who stands still, seen at a distance that wanders by 5 cm."""
    rng = np.random.default_rng(0)
    path = np.tile(rng.normal(0, 0.5, (len(LABEL_POINTS), 3)), (len(TIMES), 1, 1))
    path[..., 2] += 4 + 0.05 * np.sin(2 * np.pi * TIMES / TIMES[-1])[:, None]
    return path


def test_feet_that_stand_hold_the_whole_body() -> None:
    path = torch.from_numpy(drifting())
    wanted, weight = smooth_path(path, np.ones(path.shape[:2]), TIMES)
    assert torch.isfinite(wanted).all() and (weight > 0).all()
    moved = np.ptp(wanted.numpy(), axis=0).max(axis=-1)
    assert moved[FEET].max() < 1e-3
    assert moved.max() < 0.04, "all of the body, not the feet alone"


def test_who_never_stands_goes_where_they_were_seen() -> None:
    path = drifting()
    path[..., 0] += 2.0 * TIMES[:, None]
    wanted, _ = smooth_path(torch.from_numpy(path), np.ones(path.shape[:2]), TIMES)
    assert np.abs(wanted.numpy()[5:-5] - path[5:-5]).max() < 0.01
