"""A toy of every kind that `docs/extending.md` tells how to add."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.federated.algorithms import Algorithm
from pchmr.models.fastmetro import FastMETRO


def in_turn(labels, num_clients, rng, *, shards_per_client):
    """A partition: rows go round in stretches."""
    owner = np.arange(len(labels)) // shards_per_client % num_clients
    return [np.flatnonzero(owner == client) for client in range(num_clients)]


def _say(model, options):
    print(f"client term, mu {options.mu:g}")
    return lambda: None


ALGORITHM = Algorithm(rate=0.5, client_term=_say)


class Network(FastMETRO):
    """A model: FastMETRO that says what it is."""

    def __init__(self, choice, spec, hierarchy) -> None:
        super().__init__(choice, spec, hierarchy)
        print(f"network {choice.model} with loss {spec.loss}")


def is_toy(folder: Path) -> bool:
    return (folder / "toy.txt").is_file()


def open_toy(folder, split, body, image_size):
    """A data set: six people in a cache of its own."""
    print(f"people of {split}")
    recipe = SyntheticRecipe(
        domain="B", split=split, num_samples=6, image_size=image_size, seed=0, version=1
    )
    return SyntheticPeople(recipe, body, folder)


class Prior:
    """A keypoint prior that only knows where its weights lie."""

    def __init__(self, weights: Path) -> None:
        print(f"prior from {weights.name}")


@dataclass(frozen=True, kw_only=True)
class HelloConfig:
    """Say a word."""

    word: str = "hello"
    """What to say."""


def hello(config: HelloConfig) -> None:
    """A verb."""
    print(f"the word is {config.word}")
