"""Accepted, for review, or rejected: by predicted error, what was seen, what is certainly wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pchmr.annotate.observed import LEAST_SEEN, Observations

Status = Literal["accepted", "review", "rejected"]
Verdict = tuple[Status, str]
"""And the reason for anything but acceptance."""
BODY_CONFIDENCE, LEAST_BODY, LEAST_INSIDE = 0.5, 8, 0.8


def verdicts(
    observations: Observations,
    predicted_mm: np.ndarray,
    *,
    accept_mm: float,
    reject_mm: float,
    unknown: str = "the error cannot be predicted",
    foreign: str = "",
    wrong: Sequence[str] | None = None,
    doubts: Sequence[str] | None = None,
) -> list[Verdict]:
    """Status of every frame and the reason for anything but acceptance.

    Args:
        observations: Only keypoints that the body has count.
        predicted_mm: Of every frame; NaN is never accepted.
        accept_mm: Below it a frame is accepted.
        reject_mm: Above it a frame is rejected.
        unknown: Why a prediction may be NaN.
        foreign: Why no prediction can be relied on, so that no frame is accepted.
        wrong: What is certainly wrong with each frame; empty if nothing.
        doubts: What else raised each prediction; empty if nothing.
    """
    num_sure = (observations.confidence > BODY_CONFIDENCE).sum(axis=1)
    xy, size = np.nan_to_num(observations.table[..., :2]), observations.image_size[:, None]
    inside = (observations.confidence > 0) & ((xy >= 0) & (xy <= size)).all(axis=-1)
    known = np.isfinite(observations.table).all(axis=-1)
    share = inside.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    gates = Gates(accept_mm=accept_mm, reject_mm=reject_mm, unknown=unknown, foreign=foreign)
    nothing = [""] * len(predicted_mm)
    return [
        _no_person(int(seen))
        or _nonsense(reason)
        or gates.verdict(int(sure), float(within), float(mm), doubt)
        for seen, reason, sure, within, mm, doubt in zip(
            observations.num_seen,
            wrong or nothing,
            num_sure,
            share,
            predicted_mm,
            doubts or nothing,
            strict=True,
        )
    ]


def known_errors(observations: Observations, predicted_mm: np.ndarray) -> np.ndarray:
    """Predictions, NaN for frames in which no person was seen."""
    return np.where(observations.num_seen >= LEAST_SEEN, predicted_mm, np.nan)


def _no_person(seen: int) -> Verdict | None:
    if seen >= LEAST_SEEN:
        return None
    return "rejected", f"no person: fewer than {LEAST_SEEN} keypoints were observed"


def _nonsense(reason: str) -> Verdict | None:
    return ("rejected", reason) if reason else None


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a label must pass; see `verdicts`."""

    accept_mm: float
    reject_mm: float
    unknown: str
    foreign: str

    def verdict(self, sure: int, within: float, mm: float, doubt: str) -> Verdict:
        """Status and reason of a frame.

        Args:
            sure: Keypoints of which the observer was sure.
            within: Share of them in the picture.
            mm: Predicted error.
            doubt: What raised it, or nothing.
        """
        more = f": {doubt}" if doubt else ""
        if mm > self.reject_mm:
            return "rejected", f"predicted error {mm:.0f} mm is above {self.reject_mm:.0f} mm{more}"
        if sure < LEAST_BODY:
            return "review", f"only {sure} keypoints have a confidence above {BODY_CONFIDENCE}"
        if within < LEAST_INSIDE:
            return "review", f"only {100 * within:.0f} % of the keypoints lie in the picture"
        if np.isnan(mm):
            return "review", self.unknown
        if not mm <= self.accept_mm:
            return (
                "review",
                f"predicted error {mm:.0f} mm is not below {self.accept_mm:.0f} mm{more}",
            )
        return ("review", self.foreign) if self.foreign else ("accepted", "")
