"""Whose model becomes personal: pictures with labels, dealt to training, early stopping, scores.

A user of a rendered root has truth beside the labels; it is read by scores alone. Users with their
own pictures have none.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pchmr.config import FittingOptions, UserError
from pchmr.data.labels import ACCEPTED
from pchmr.data.sample import PeopleDataset, Subset

REVIEW, REJECTED = "review", "rejected"
HALF_MM = 60.0  # predicted error at which a label counts half
REVIEW_WEIGHT = 0.5


class NothingToLearnError(UserError):
    """No user has labels enough; the message says where to look."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One person's pictures.

    Attributes:
        name: Of the user: the subject of a root, or `own`.
        train: Labeled pictures to learn from.
        validation: Labeled pictures that end training.
        test: Labeled pictures to score on.
        truth: The true splits of the same pictures, where pictures are rendered.
        about: What else the summary says, such as the error of the labels.
        close: The pictures of `test`, larger, for another network to look at.
        times: Of `test` in seconds, where it is frames of one video.
        labeled_with: Keypoint prior of the labels; None is the usual one.
    """

    name: str
    train: PeopleDataset
    validation: PeopleDataset
    test: PeopleDataset
    truth: Mapping[str, PeopleDataset] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    close: PeopleDataset | None = None
    times: np.ndarray | None = None
    labeled_with: str | None = None


def usable(people: PeopleDataset, use_review: bool) -> np.ndarray:
    """Rows whose labels may teach: accepted ones, those to look at when asked, rejected never."""
    status = people.columns["status"]
    kept = np.isin(status, (ACCEPTED, REVIEW)) if use_review else status == ACCEPTED
    return np.flatnonzero(kept)


def held_out(people: PeopleDataset, options: FittingOptions) -> PeopleDataset:
    """Labels that end training: usable ones, or all that are not rejected where these are few."""
    rows = usable(people, options.use_review)
    if len(rows) < options.min_labels // 4:
        rows = usable(people, use_review=True)
    return Subset(people, rows)


def weights(people: PeopleDataset) -> np.ndarray:
    """How much each label counts: less the larger its predicted error, less if not accepted."""
    error = np.nan_to_num(people.columns["predicted_error_mm"].astype(float), nan=2 * HALF_MM)
    weight = 1 / (1 + np.square(error / HALF_MM))
    return np.where(people.columns["status"] == ACCEPTED, weight, REVIEW_WEIGHT * weight)


def counts(people: PeopleDataset) -> dict[str, int]:
    """How many labels have each status."""
    return dict(Counter(people.columns["status"].tolist()))


def too_few(
    labels: Path, found: Mapping[str, int], num_usable: int, options: FittingOptions
) -> str:
    """Why nothing was learned, which frames to look at, and the way on."""
    words = ", ".join(f"{count} {status}" for status, count in sorted(found.items()))
    ways = [f"look at the frames that `pchmr labels {labels}` lists and --accept good ones"]
    if not options.use_review and found.get(REVIEW):
        ways.insert(0, "count those to look at with less weight: --use-review")
    return (
        f"{num_usable} usable labels ({words or 'none'}), {options.min_labels} are needed: "
        f"{'; or '.join(ways)}; or give more pictures"
    )
