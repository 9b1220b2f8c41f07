"""Named configs, and the one way in which seeds are derived."""

import hashlib
from pathlib import Path

from pchmr.config import DataOptions, FederateConfig, ModelOptions, OptimOptions, TrainConfig


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name, stable over machines and Python versions."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


START_OPTIONS = OptimOptions(learning_rate=1e-3, batch_size=32, clip=1.0)
START_DATA = DataOptions(domain="A", num_samples=40_000, num_test_samples=1000)

RECIPES: dict[str, TrainConfig | FederateConfig] = {
    f"start-{size}": TrainConfig(
        output=Path(f"runs/start-{size}"),
        num_epochs=20,
        schedule="cosine",
        data_options=START_DATA,
        model_options=ModelOptions(model=model, from_scratch=True),
        optim_options=START_OPTIONS,
    )
    for size, model in (("xs", "fastmetro_xs"), ("tore-xs", "tore_xs"))
}
