"""Rendered people whose exact labels teach along: of the source domain, and in the user's setting.

The first keep what the shared model knew, and are what forgetting is measured on. The second, other
people under the same kind of camera, teach what the setting does to pictures. No user is among
them: they are drawn with a seed of their own.
"""

from dataclasses import dataclass

from torch import nn

from pchmr.body import BodyModel
from pchmr.config import DataOptions, Domain
from pchmr.data import load_people
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.recipe import RECIPE_VERSION, Split, SyntheticRecipe
from pchmr.evaluation import evaluate
from pchmr.progress import bar

SOURCE: Domain = "A"
SCORED = 4  # times as many people are learned from as scored on
OTHERS_SEEDS = (9_000, 9_001, 9_002)


@dataclass(frozen=True)
class Rendered:
    """Rendered people to learn from, and people to be scored on."""

    train: PeopleDataset
    test: PeopleDataset
    validation: PeopleDataset | None = None

    def mpjpe_mm(self, model: nn.Module, body: BodyModel) -> float:
        """Error on the people to be scored on."""
        return _mpjpe_mm(model, body, self.test)

    def watched_mm(self, model: nn.Module, body: BodyModel) -> float:
        """Error on people whom no score is about: what learning may look at."""
        assert self.validation is not None
        return _mpjpe_mm(model, body, self.validation)


def _mpjpe_mm(model: nn.Module, body: BodyModel, people: PeopleDataset) -> float:
    error = evaluate(model, body, people).mpjpe_mm
    assert error is not None
    return error


def source_people(body: BodyModel, image_size: int, count: int) -> Rendered:
    """People of the source domain, rendered once; later runs find them in the cache.

    Args:
        body: Whom to render.
        image_size: Side of the crops in pixels.
        count: People to learn from; those to be scored on, and those to be watched, are a
            quarter as many.
    """
    options = DataOptions(
        domain=SOURCE, num_samples=count, num_test_samples=max(count // SCORED, 1)
    )
    return Rendered(
        _rendered(options, "train", body, image_size, seed=0),
        _rendered(options, "test", body, image_size, seed=0),
        _rendered(options, "validation", body, image_size, seed=0),
    )


def others_in(
    setting: Domain,
    body: BodyModel,
    image_size: int,
    count: int,
    users: SyntheticRecipe | None = None,
) -> Rendered:
    """Other people in a setting, in the world of the users where these are rendered too.

    Those to be scored on are yet other people.

    Args:
        setting: Domain that they are drawn from.
        body: Whom to render.
        image_size: Side of the crops in pixels.
        count: People to learn from; those to be scored on are an eighth as many.
        users: How the users were rendered: the others get other seeds.
    """
    options = DataOptions(
        domain=setting,
        num_samples=count,
        num_test_samples=max(count // (2 * SCORED), 1),
        world=users.version if users else RECIPE_VERSION,  # pyright: ignore[reportArgumentType]
    )
    taken = None if users is None else users.seed
    first, second = [seed for seed in OTHERS_SEEDS if seed != taken][:2]
    return Rendered(
        _rendered(options, "train", body, image_size, first),
        _rendered(options, "test", body, image_size, second),
    )


def _rendered(
    options: DataOptions, split: Split, body: BodyModel, image_size: int, seed: int
) -> PeopleDataset:
    count = options.num_samples if split == "train" else options.num_test_samples
    with bar(f"people of {options.domain}, {split}", count) as advance:
        people = load_people(
            options, split, body=body, seed=seed, image_size=image_size, progress=advance.to
        )
        advance.to(count, count)
    return people
