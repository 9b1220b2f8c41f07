"""The whole story in one function: before, centralized, federated, sums, labels, own people.

One page tells it.

People are rendered, ten clients hold them, and the start model has seen none of them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pchmr import experiment
from pchmr.bench.annotators.story import tell
from pchmr.bench.personal import tell_personal
from pchmr.config import (
    DataOptions,
    DemoConfig,
    FederateConfig,
    FittingOptions,
    ModelOptions,
    OptimOptions,
    PrivacyOptions,
    ServerOptions,
    TrainConfig,
)
from pchmr.progress import say
from pchmr.report import write_report
from pchmr.runs import alone

NUM_CLIENTS = 10
SCHEDULE = "cosine"
OPTIM = OptimOptions(batch_size=16, learning_rate=1e-4, clip=1.0)
"""Three times the rate, held to the end, makes the start model worse (LOG, 2026-11-29)."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of the story is told."""

    num_samples: int
    num_test_samples: int
    num_rounds: int
    num_labeled: int
    num_users: int
    own: DataOptions
    fitting: FittingOptions


FULL = Size(
    num_samples=1200,
    num_test_samples=300,
    num_rounds=3,
    num_labeled=16,
    num_users=2,
    own=DataOptions(domain="V", num_samples=720, num_test_samples=120, image_size=112),
    fitting=FittingOptions(num_others=200, num_rehearsed=256, num_epochs=6),
)
QUICK = Size(
    num_samples=90,
    num_test_samples=36,
    num_rounds=2,
    num_labeled=4,
    num_users=1,
    own=DataOptions(domain="V", num_samples=80, num_test_samples=48, image_size=112),
    fitting=FittingOptions(
        num_others=16, num_rehearsed=16, setting_epochs=1, num_epochs=1, min_labels=2
    ),
)


def size_of(config: DemoConfig) -> Size:
    """How much of the story a config asks for."""
    return QUICK if config.quick else FULL


def configs(config: DemoConfig) -> tuple[TrainConfig, FederateConfig, FederateConfig]:
    """A run of each paradigm, equal in everything else."""
    size = size_of(config)
    data = DataOptions(
        domain="B",
        num_samples=size.num_samples,
        num_test_samples=size.num_test_samples,
    )
    common = {
        "seed": config.seed,
        "data_options": data,
        "model_options": ModelOptions(),
        "optim_options": OPTIM,
    }
    central = TrainConfig(
        output=config.output / "centralized",
        num_epochs=size.num_rounds,
        schedule=SCHEDULE,
        **common,
    )
    federated = FederateConfig(
        output=config.output / "federated",
        num_clients=NUM_CLIENTS,
        clients_per_round=NUM_CLIENTS,
        num_rounds=size.num_rounds,
        partition="natural",
        server_options=ServerOptions(round_schedule=SCHEDULE),
        **common,
    )
    secure = replace(
        federated,
        output=config.output / "secure",
        privacy_options=PrivacyOptions(aggregation="secure"),
    )
    return central, federated, secure


@alone
def run(config: DemoConfig) -> Path:
    """Runs the demo and returns the path of the report."""
    central, federated, secure = configs(config)
    say("1/5 centralized: every image in one place (the reference)")
    experiment.train(central)
    say("2/5 federated: images stay with ten clients, model updates travel")
    experiment.federate(federated)
    say("3/5 secure: the server sees sums of ten updates, and no single one")
    experiment.federate(secure)
    say("4/5 labels made on the device")
    folders = [central.output, federated.output, secure.output]
    size = size_of(config)
    told = tell(config.seed, size.num_labeled)
    say("5/5 models of headset wearers' own, then the report")
    place = config.output / "own"
    own = tell_personal(place, size.own, size.fitting, size.num_users, config.seed)
    report = write_report(folders, config.output / "report.html", [told, own])
    say(f"report: {report}")
    return report
