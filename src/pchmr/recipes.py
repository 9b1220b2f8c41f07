"""Named configs, and the one way in which seeds are derived."""

import hashlib
from dataclasses import replace
from pathlib import Path

from pchmr.config import DataOptions, FederateConfig, ModelOptions, OptimOptions, TrainConfig


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name, stable over machines and Python versions."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


# Names of `pchmr bench`, and the modules of `pchmr.bench` that each runs.
BENCHES: dict[str, tuple[str, ...]] = {
    "speed": ("rasterizer", "body", "federated", "models"),
    "rasterizer": ("rasterizer",),
    "body": ("body",),
    "federated": ("federated",),
    "faults": ("faults",),
    "models": ("models",),
    "export": ("export",),
    "annotators": ("annotators",),
}

START_OPTIONS = OptimOptions(optimizer="muon", learning_rate=1.5e-3, batch_size=16, clip=1.0)
START_DATA = DataOptions(domain="A", num_samples=20_000, num_test_samples=1000)
_KEYPOINTS = TrainConfig(
    output=Path("runs/start-keypoints"),
    num_epochs=7,
    keypoint_epochs=7,
    schedule="cosine",
    warmup_epochs=0.1,
    data_options=START_DATA,
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
        optim_options=replace(START_OPTIONS, learning_rate=1e-3, batch_size=16),
        model_options=ModelOptions(
            model=model, backbone_weights=_KEYPOINTS.output / "model.safetensors"
        ),
    )


# The start models, in the order in which they are made.
RECIPES: dict[str, TrainConfig | FederateConfig] = {
    "start-keypoints": _KEYPOINTS,
    "start-xs": _start("fastmetro_xs", "start-xs"),
    "start-tore-xs": _start("tore_xs", "start-tore-xs"),
}
