"""Named configs, and the benchmarks by name."""

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from pchmr.config import DataOptions, FederateConfig, ModelOptions, OptimOptions, TrainConfig


@dataclass(frozen=True)
class Bench:
    """A benchmark: what it measures, in a line, and the modules of `pchmr.bench` that do."""

    about: str
    modules: tuple[str, ...] = ("comparison",)


BENCHES: dict[str, Bench] = {
    "speed": Bench(
        "rasterizer, body, federated, engines and models, one after the other",
        ("rasterizer", "body", "federated", "engines", "models"),
    ),
    "rasterizer": Bench("CPU time of a rendered picture", ("rasterizer",)),
    "body": Bench("CPU time of skinning, errors of coarse meshes and shapes", ("body",)),
    "federated": Bench(
        "what a round costs beyond local training, on both engines", ("federated", "engines")
    ),
    "faults": Bench("broken replies, killed runs, damaged checkpoints", ("faults",)),
    "deploy": Bench("what a round between machines costs, limits of a server", ("deploy",)),
    "secure": Bench("what secure aggregation costs a client and a server", ("secure",)),
    "audit": Bench("what the server's view gives away of clients, plain and secure", ("audit",)),
    "noise": Bench("epsilon against error, and what canaries find", ("noise",)),
    "models": Bench("speed and memory of the networks, size of XS", ("models",)),
    "export": Bench("speed and accuracy of exported networks", ("export",)),
    "live": Bench("the live and review pages in a browser, and what they rest on", ("live",)),
    "annotators": Bench("errors and speed of each way of annotating", ("annotators",)),
    "placing": Bench(
        "where metric depth puts people, and what clouds of points give",
        ("annotators.placing", "annotators.clouds"),
    ),
    "people": Bench("checks, costs and contact sheets of the rendered people", ("people",)),
    "imported": Bench("how fast imported pictures come in and go out augmented", ("imported",)),
    "recorded": Bench("start models on people in recorded poses, beside templates", ("recorded",)),
    "start": Bench("start models on five draws of people, over their mean pose", ("start",)),
    "realism": Bench("whether a network that has seen photos finds rendered people", ("realism",)),
    "crowds": Bench("people missed and made up in rendered crowds", ("crowds",)),
    "seen": Bench("rendered people through the photo-trained network and the fit", ("seen",)),
    "clips": Bench("a rendered walk through that network: ids, jitter, feet, errors", ("clips",)),
    "personalize": Bench(
        "headset wearers before and after, against the truth, and what else there is",
        ("personalize",),
    ),
    "learning-curves": Bench("what all of domain B teaches the start weights"),
    "learning-samples": Bench("the same on fewer images, and from random weights"),
    "client-scale": Bench("centralized against 10, 100 and 1000 clients"),
    "ladder": Bench("what of the cost of federation is fewer steps, one change a rung"),
    "convergence": Bench("how far both come on four times the images"),
    "plateau": Bench("what federation costs on sixteen times the images"),
    "lda": Bench("Dirichlet partitions by action, from nearly iid to one action each"),
    "natural": Bench("every scene a client, against images dealt at random"),
    "optimizers": Bench("every algorithm on one skewed partition"),
    "finetune": Bench("fine-tuning everything, the head, or low-rank corrections"),
    "pfl": Bench("networks of their own for clients of one scene each", ("pfl",)),
    "batch-norm": Bench("running statistics averaged, left alone, or clients' own", ("pfl",)),
    "byzantine": Bench("clients that mean harm, behind each defence"),
}

START_OPTIONS = OptimOptions(optimizer="muon", learning_rate=1.5e-3, batch_size=16, clip=1.0)
START_DATA = DataOptions(domain="A", num_samples=20_000, num_test_samples=1000)
_KEYPOINTS = TrainConfig(
    output=Path("runs/start-keypoints"),
    num_epochs=7,
    keypoint_epochs=7,
    schedule="cosine",
    warmup_epochs=0.1,
    data_options=replace(START_DATA, world=1),
    model_options=ModelOptions(model="fastmetro_xs", from_scratch=True),
    optim_options=START_OPTIONS,
)


def _start(model: str, name: str) -> TrainConfig:
    """The whole network, from the backbone and keypoint head of the first recipe."""
    return replace(
        _KEYPOINTS,
        output=Path(f"runs/{name}"),
        num_epochs=2,
        keypoint_epochs=0,
        data_options=replace(START_DATA, num_samples=30_000, world=1),
        optim_options=replace(START_OPTIONS, learning_rate=1e-3),
        model_options=ModelOptions(
            model=model, backbone_weights=_KEYPOINTS.output / "model.safetensors"
        ),
    )


def _onward(first: TrainConfig) -> TrainConfig:
    """From there on, with the people of world 2: edition 2, on which comparisons stand."""
    return replace(
        first,
        output=Path(f"{first.output}-world-2"),
        num_epochs=3,
        data_options=replace(first.data_options, world=2),
        model_options=replace(
            first.model_options,
            checkpoint=first.output / "model.safetensors",
            backbone_weights=None,
        ),
    )


def _longer(
    before: TrainConfig, name: str, num_epochs: int, rate: float, bystanders: float = 0.0
) -> TrainConfig:
    """From there on, several times as long, with others in every epoch.

    What is shipped saw six sets of 10,000 people in turns, then nine, rendered before, in place of
    those that this renders on the way; the second time others stood beside after a third, and at
    last 10,000 people came once more at 5e-5.
    """
    start = before.output / "model.safetensors"
    changes = {"learning_rate": rate, "batch_size": 32, "bystanders": bystanders}
    return replace(
        before,
        output=Path(f"runs/{name}"),
        num_epochs=num_epochs,
        warmup_epochs=0.4,
        data_options=replace(before.data_options, num_samples=10_000, on_the_fly=True),
        optim_options=replace(before.optim_options, **changes),
        model_options=replace(before.model_options, checkpoint=start),
    )


def _start_s(model: str, name: str) -> TrainConfig:
    """Start weights of the published size, for a GPU; --backbone-weights brings ImageNet's."""
    return TrainConfig(
        output=Path(f"runs/{name}"),
        num_epochs=10,
        keypoint_epochs=3,
        schedule="cosine",
        warmup_epochs=0.1,
        compile=True,
        data_options=replace(START_DATA, num_samples=60_000, image_size=224),
        optim_options=replace(START_OPTIONS, learning_rate=1e-3, batch_size=64, bf16=True),
        model_options=ModelOptions(model=model, from_scratch=True),
    )


# The published training, one process of four (`torchrun --nproc-per-node 4`); --backbone-weights
# brings ImageNet's, --data the people, --model another size.
_FASTMETRO = TrainConfig(
    output=Path("runs/paper-fastmetro"),
    seed=88,
    num_epochs=60,
    data_options=START_DATA,
    model_options=ModelOptions(model="fastmetro_s", from_scratch=True),
    optim_options=OptimOptions(learning_rate=1e-4, batch_size=16, paper_losses=True),
)
_TORE = replace(
    _FASTMETRO,
    output=Path("runs/paper-tore"),
    schedule="step",
    model_options=ModelOptions(model="tore_s", from_scratch=True),
    optim_options=replace(_FASTMETRO.optim_options, clip_by="value"),
)
_FINETUNE = replace(
    _FASTMETRO,
    output=Path("runs/paper-3dpw"),
    num_epochs=8,
    model_options=ModelOptions(model="fastmetro_s"),  # from --checkpoint
    optim_options=replace(_FASTMETRO.optim_options, learning_rate=2e-5),
)

# Its convolutions and scales fit the network with running statistics too.
_EDITION_2 = Path(
    str(resources.files("pchmr") / "models/weights/fastmetro_xs_edition_2.safetensors")
)
_XS, _TORE_XS = _start("fastmetro_xs", "start-xs"), _start("tore_xs", "start-tore-xs")
_XS_LONGER = _longer(_onward(_XS), "start-xs-longer", 36, 1.5e-3)
_TORE_XS_LONGER = _longer(_onward(_TORE_XS), "start-tore-xs-longer", 27, 1.5e-3)

# The start models, in the order in which they are made, then the papers' own training.
RECIPES: dict[str, TrainConfig | FederateConfig] = {
    "start-keypoints": _KEYPOINTS,
    "start-xs": _XS,
    "start-tore-xs": _TORE_XS,
    "start-xs-world-2": _onward(_XS),
    "start-tore-xs-world-2": _onward(_TORE_XS),
    "start-xs-longer": _XS_LONGER,
    "start-tore-xs-longer": _TORE_XS_LONGER,
    "start-xs-longest": _longer(_XS_LONGER, "start-xs-longest", 30, 1.2e-3, 0.5),
    "start-tore-xs-longest": _longer(_TORE_XS_LONGER, "start-tore-xs-longest", 27, 1.2e-3, 0.5),
    "start-xs-bn": replace(
        _start("fastmetro_xs_bn", "start-xs-bn"),
        data_options=START_DATA,
        model_options=ModelOptions(model="fastmetro_xs_bn", backbone_weights=_EDITION_2),
    ),
    "start-fastmetro-s": _start_s("fastmetro_s", "start-fastmetro-s"),
    "start-tore-s": _start_s("tore_s", "start-tore-s"),
    "paper-fastmetro": _FASTMETRO,
    "paper-tore": _TORE,
    "paper-3dpw": _FINETUNE,
}
