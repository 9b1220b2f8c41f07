"""What an epoch of personalization sees: labels drawn by how sure they are, and rendered people.

Drawing a label more often is weighting its loss: the gradient has the same mean. Rendered people
among them keep what the shared model knew, or show what the user's setting does to pictures.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pchmr.data.sample import PeopleDataset, Sample, Subset
from pchmr.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Two data sets one after the other, as one; see `PeopleDataset`."""

    first: PeopleDataset
    second: PeopleDataset

    @property
    def is_private(self) -> bool:
        """Whether either is."""
        return self.first.is_private or self.second.is_private

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels, of both."""
        return self.first.image_size

    @property
    def content_hash(self) -> str:
        """Of both."""
        both = f"{self.first.content_hash} {self.second.content_hash}"
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns that both have."""
        one, two = self.first.columns, self.second.columns
        return {name: np.concatenate([one[name], two[name]]) for name in one if name in two}

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order."""
        rows, border = np.asarray(indices, dtype=np.int64), len(self.first)
        is_first = rows < border
        parts = [
            (self.first, rows[is_first]),
            (self.second, rows[~is_first] - border),
        ]
        samples = [people.batch(own) for people, own in parts if len(own)]
        order = np.argsort(np.concatenate([np.flatnonzero(is_first), np.flatnonzero(~is_first)]))
        place = torch.from_numpy(order)
        return Sample.joined(samples).taken(place)


@dataclass(frozen=True)
class Helpers:
    """Rendered people, and their share in every epoch."""

    people: PeopleDataset
    share: float


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """A person's labels and rendered people, drawn anew for every epoch.

    Attributes:
        people: Labeled pictures.
        weights: How much each counts.
        helpers: Rendered people; their shares leave room for the labels.
        seed: Draws.
    """

    people: PeopleDataset
    weights: np.ndarray
    helpers: Sequence[Helpers] = ()
    seed: int

    def of_epoch(self, epoch: int) -> PeopleDataset:
        """As many draws of labels as there are, and rendered people in proportion."""
        rng = np.random.default_rng(derive_seed(self.seed, "lessons", epoch))
        drawn: PeopleDataset = Subset(self.people, drawn_rows(self.weights, rng))
        total = len(drawn) / (1 - sum(helper.share for helper in self.helpers))
        for helper in self.helpers:
            count, there = round(helper.share * total), len(helper.people)
            rows = rng.choice(there, count, replace=count > there)
            drawn = Mixture(first=drawn, second=Subset(helper.people, rows)) if count else drawn
        return drawn


def drawn_rows(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as there are, each as often as its weight says on average (systematic draws)."""
    share = np.cumsum(weights) / weights.sum()
    at = (np.arange(len(weights)) + rng.random()) / len(weights)
    return np.minimum(np.searchsorted(share, at), len(weights) - 1)
