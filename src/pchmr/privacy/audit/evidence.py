"""What the server of a replayed run sees, gathered once for all attacks, and the view on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from pchmr.federated.hidden import weight_of
from pchmr.privacy.audit.lineup import Channel
from pchmr.privacy.audit.membership import REFERENCE
from pchmr.privacy.audit.replay import Replay, Values
from pchmr.privacy.audit.shape import ShapeAttack, taught
from pchmr.privacy.audit.sketch import Sketch


@dataclass(frozen=True)
class ServerView:
    """What the server may look at.

    Attributes:
        name: `plain` or `secure`.
        cohort: Clients of a sum.
        deviation: Of the noise on every entry of a sum, under differential privacy.
    """

    name: str
    cohort: int
    deviation: float = 0.0

    @property
    def members(self) -> int:
        """Clients whose updates come mixed."""
        return 1 if self.name == "plain" else self.cohort

    @property
    def words(self) -> str:
        """For people."""
        if self.name == "plain":
            return "from single updates"
        return f"from sums over {self.cohort} clients"


@dataclass
class Evidence:
    """Updates of everybody at the start weights, and what attacks have learned from shadow people.

    Attributes:
        replay: Of the run.
        sketch: Folds updates.
        features: Of each person's update.
        weights: Of each person's client in a mean.
        kept: Whole updates of some people.
        attack: Shape from features.
        said: What it says of each person; of shadow people when they do not teach.
        channel: How shapes turn into what is said.
        seed: Of what attacks leave to chance.
        steps: Of the search for a picture.
    """

    replay: Replay
    sketch: Sketch
    features: Float[np.ndarray, "people sketch"]
    weights: Float[np.ndarray, " people"]
    kept: dict[int, Values]
    attack: ShapeAttack
    said: Float[np.ndarray, "people betas"]
    channel: Channel
    seed: int
    steps: int
    noise_said: Float[np.ndarray, "betas betas"] = field(init=False)

    def __post_init__(self) -> None:
        spread = self.sketch.counts[:, None] * self.attack.weights
        self.noise_said = self.attack.weights.T @ spread

    @property
    def reference(self) -> np.ndarray:
        """Targets that are not asked about, whose updates say what is usual."""
        cast = self.replay.cast
        return np.setdiff1d(cast.target, cast.doubled)[:REFERENCE]

    def noise(self, view: ServerView, parts: Float[np.ndarray, "cases people"]) -> np.ndarray:
        """What the noise of sums adds to what is said of their means; zeros without noise."""
        cases = len(parts)
        if view.name == "plain" or not view.deviation:
            return np.zeros((cases, len(self.noise_said)))
        rng = np.random.default_rng(self.seed)
        root = np.linalg.cholesky(self.noise_said + 1e-12 * np.eye(len(self.noise_said)))
        drawn = rng.standard_normal((cases, len(root))) @ root.T
        return drawn * view.deviation / view.cohort


def gathered(replay: Replay, seed: int, steps: int, on_client: Callable[[], None]) -> Evidence:
    """Plays every client of a person once, and teaches the attack on shapes."""
    cast, sketch = replay.cast, Sketch(replay.spec.parameters)
    features = np.empty((len(cast.rows), sketch.size), dtype=np.float32)
    whole = {*cast.doubled.tolist()}
    whole |= {*np.setdiff1d(cast.target, cast.doubled)[:REFERENCE].tolist()}
    kept: dict[int, Values] = {}
    for person in range(len(cast.rows)):
        update = replay.update(person)
        features[person] = sketch(update)
        if person in whole:
            kept[person] = update.copy()
        on_client()
    noised = replay.config.privacy_options.is_noised
    weights = np.array(
        [1.0 if noised else weight_of(replay.config, len(rows)) for rows in cast.rows]
    )
    attack = taught(features, cast.betas, cast.shadow, cast.tuning, sketch.names, sketch.places)
    said = attack(features)
    said[cast.shadow] = attack.shadow_said
    known = np.concatenate([cast.shadow, cast.tuning])
    channel = Channel.of(cast.betas[known], said[known])
    return Evidence(replay, sketch, features, weights, kept, attack, said, channel, seed, steps)
