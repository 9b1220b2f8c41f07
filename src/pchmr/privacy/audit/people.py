"""The people of an audit: rendered, of known shape, and nobody is in two roles.

Shadow people teach an attack, tuning people choose its settings, target people are attacked. They
are drawn by seeds of their own, so none of them is in a run. The attacker knows how people are
rendered: the strongest case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pchmr.body import BodyModel
from pchmr.config import require
from pchmr.data import num_workers
from pchmr.data.sample import COLUMNS, Sample
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.seeds import derive_seed

POOL = 150  # people of domain B behind one seed, and candidates of a line-up
HALVES = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many people an audit draws.

    Attributes:
        num_pools: Seeds, each of which draws `POOL` people.
        num_pictures: Of each pool, spread over its people as volumes are in the world.
        num_targets: People that are attacked, and candidates of a line-up.
        most_pictures: That a client trains on.
        num_tuning: People that choose settings.
        num_doubled: Targets of whom other pictures are known to be no training pictures.
        num_singles: Shadow people whose first picture is a client of its own, and as many targets
            as there are.
    """

    num_pools: int = 3
    num_pictures: int = 2400
    num_targets: int = POOL
    most_pictures: int = 20
    num_tuning: int = 50
    num_doubled: int = 30
    num_singles: int = 240


QUICK = Plan(
    num_pools=1,
    num_pictures=400,
    num_targets=60,
    most_pictures=8,
    num_tuning=20,
    num_doubled=20,
    num_singles=40,
)


class Joined:
    """Several rendered sets as one; see `PeopleDataset`."""

    is_private = False

    def __init__(self, parts: Sequence[SyntheticPeople]) -> None:
        self.parts, self.image_size = list(parts), parts[0].image_size
        self.starts = np.cumsum([0, *map(len, parts)])
        self.columns = {n: np.concatenate([p.columns[n] for p in parts]) for n in COLUMNS}

    @property
    def content_hash(self) -> str:
        """Of all parts."""
        return "+".join(part.content_hash for part in self.parts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """Rows of one part: a client's pictures never span two.

        Raises:
            ValueError: The rows are of several parts.
        """
        rows = np.asarray(indices, dtype=np.int64)
        part = int(np.searchsorted(self.starts, rows[0], "right")) - 1
        local = rows - self.starts[part]
        if local.min() < 0 or local.max() >= len(self.parts[part]):
            raise ValueError("rows of several parts cannot be read in one batch")
        return self.parts[part].batch(local)


@dataclass(frozen=True)
class Cast:
    """Who plays which role.

    Attributes:
        people: All pictures.
        rows: Training pictures of each person.
        others: Other pictures of the same person, which no client trains on; empty for most.
        betas: Shape of each person.
        shadow: Numbers of the people that teach.
        tuning: Numbers of those that choose.
        target: Numbers of those that are attacked.
        num_singles: Shadow people and then targets whose first picture is a client of its own.
    """

    people: Joined
    rows: list[np.ndarray]
    others: list[np.ndarray]
    betas: Float[np.ndarray, "people betas"]
    shadow: np.ndarray
    tuning: np.ndarray
    target: np.ndarray
    num_singles: int

    @property
    def singles(self) -> np.ndarray:
        """People of the clients with one picture: shadow people first, then all targets."""
        return np.concatenate([self.shadow[: self.num_singles], self.target])

    @property
    def clients(self) -> list[np.ndarray]:
        """Rows of every client: a person each, then a picture each."""
        return [*self.rows, *(self.rows[person][:1] for person in self.singles)]

    @property
    def doubled(self) -> np.ndarray:
        """Targets with other pictures."""
        return np.array([p for p in self.target if len(self.others[p])], dtype=np.int64)


def draw_cast(
    plan: Plan,
    body: BodyModel,
    *,
    image_size: int,
    seed: int,
    world: int,
    cache: Path | None = None,
    data: Path | None = None,
) -> Cast:
    """Renders the people of an audit, unless they are cached or there is a folder of people.

    Args:
        plan: How many.
        body: Of all of them.
        image_size: Side of the crops in pixels.
        seed: Draws them.
        world: Version of the rendered people.
        cache: Folder of renderings.
        data: Folder of rendered people to take in their place.
    """
    if data is not None:
        return cast_of(Joined([SyntheticPeople.open(data)]), plan)
    parts = []
    for pool in range(plan.num_pools):
        recipe = SyntheticRecipe(
            domain="B",
            num_samples=plan.num_pictures,
            image_size=image_size,
            seed=derive_seed(seed, "audit people", pool) % 2**31,
            version=world,
        )
        workers = num_workers(plan.num_pictures)
        parts.append(SyntheticPeople(recipe, body, cache, num_workers=workers))
    return cast_of(Joined(parts), plan)


def cast_of(people: Joined, plan: Plan) -> Cast:
    """Deals roles: those with the most pictures are attacked, the next choose, the rest teach.

    How many pictures there are of somebody says nothing of the shape.

    Raises:
        SettingError: Too few people.
    """
    rows, betas = [], []
    for start, part in zip(people.starts, people.parts, strict=False):
        subjects = part.columns["subject"]
        for subject in np.unique(subjects):
            own = np.flatnonzero(subjects == subject)
            rows.append(int(start) + own)
            betas.append(part.batch(own[:1]).betas[0].numpy())
    least = plan.num_targets + 2 * plan.num_tuning
    require(
        len(rows) >= least,
        f"--data holds {len(rows)} people: {plan.num_targets} are attacked, and {least} are needed",
    )
    by_pictures = np.argsort([-len(own) for own in rows], kind="stable")
    cuts = [plan.num_targets, plan.num_targets + plan.num_tuning]
    target, tuning, shadow = (np.sort(part) for part in np.split(by_pictures, cuts))
    most = by_pictures[: plan.num_doubled]
    others = [np.empty(0, dtype=np.int64)] * len(rows)
    for person in most:
        rows[person], others[person] = rows[person][::HALVES], rows[person][1::HALVES]
    rows = [own[: plan.most_pictures] for own in rows]
    return Cast(people, rows, others, np.stack(betas), shadow, tuning, target, plan.num_singles)
