"""Rendered people of the source domain: what the shared model learned from, kept and measured."""

from dataclasses import dataclass

from torch import nn

from pchmr.body import BodyModel
from pchmr.config import DataOptions
from pchmr.data import load_people
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.recipe import Split
from pchmr.evaluation import evaluate
from pchmr.progress import bar

SOURCE = "A"
NUM_REHEARSED, NUM_SCORED = 256, 128


@dataclass(frozen=True)
class Source:
    """People to learn from again and people to be scored on."""

    train: PeopleDataset
    test: PeopleDataset

    @classmethod
    def open(cls, body: BodyModel, image_size: int, seed: int) -> "Source":
        """Renders them once; later runs find them in the cache."""
        options = DataOptions(domain=SOURCE, num_samples=NUM_REHEARSED, num_test_samples=NUM_SCORED)
        sets = []
        counts: dict[Split, int] = {"train": NUM_REHEARSED, "test": NUM_SCORED}
        for split, count in counts.items():
            with bar(f"people of {SOURCE}, {split}", count) as advance:
                sets.append(
                    load_people(
                        options,
                        split,
                        body=body,
                        seed=seed,
                        image_size=image_size,
                        progress=advance.to,
                    )
                )
                advance.to(count, count)
        return cls(*sets)

    def mpjpe_mm(self, model: nn.Module, body: BodyModel) -> float:
        """Error on people of the source domain."""
        error = evaluate(model, body, self.test).mpjpe_mm
        assert error is not None
        return error
