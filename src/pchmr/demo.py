"""The whole story in one function: before, centralized, federated, labels, and their page.

People are rendered, ten clients hold them, and the start model has seen none of them.
"""

from dataclasses import dataclass
from pathlib import Path

from pchmr import experiment
from pchmr.bench.annotators.story import tell
from pchmr.config import (
    DataOptions,
    DemoConfig,
    FederateConfig,
    ModelOptions,
    OptimOptions,
    TrainConfig,
)
from pchmr.progress import say
from pchmr.report import write_report
from pchmr.runs import alone

NUM_CLIENTS = 10
BATCH_SIZE = 16  # a client holds about sixty pictures: a few steps a round


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of the story is told."""

    num_samples: int
    num_test_samples: int
    num_rounds: int
    image_size: int | None
    num_labeled: int


FULL = Size(num_samples=600, num_test_samples=200, num_rounds=4, image_size=None, num_labeled=16)
QUICK = Size(num_samples=60, num_test_samples=20, num_rounds=2, image_size=64, num_labeled=4)


def size_of(config: DemoConfig) -> Size:
    """How much of the story a config asks for."""
    return QUICK if config.quick else FULL


def configs(config: DemoConfig) -> tuple[TrainConfig, FederateConfig]:
    """The centralized and the federated run, equal in everything but the paradigm."""
    size = size_of(config)
    data = DataOptions(
        domain="B",
        num_samples=size.num_samples,
        num_test_samples=size.num_test_samples,
        image_size=size.image_size,
    )
    common = {
        "seed": config.seed,
        "data_options": data,
        "model_options": ModelOptions(),
        "optim_options": OptimOptions(batch_size=BATCH_SIZE),
    }
    central = TrainConfig(
        output=config.output / "centralized", num_epochs=size.num_rounds, **common
    )
    federated = FederateConfig(
        output=config.output / "federated",
        num_clients=NUM_CLIENTS,
        clients_per_round=NUM_CLIENTS,
        num_rounds=size.num_rounds,
        partition="natural",
        **common,
    )
    return central, federated


@alone
def run(config: DemoConfig) -> Path:
    """Runs the demo and returns the path of the report."""
    central, federated = configs(config)
    say("1/3 centralized: every image in one place (the reference)")
    experiment.train(central)
    say("2/3 federated: images stay with ten clients, model updates travel")
    experiment.federate(federated)
    say("3/3 labels made on the device, then the report")
    folders = [central.output, federated.output]
    told = tell(config.seed, size_of(config).num_labeled)
    report = write_report(folders, config.output / "report.html", [told])
    say(f"report: {report}")
    return report
