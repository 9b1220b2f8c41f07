"""Named configs, and the one way in which seeds are derived."""

import hashlib
from dataclasses import replace
from pathlib import Path

from pchmr.config import DataOptions, FederateConfig, ModelOptions, OptimOptions, TrainConfig


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name, stable over machines and Python versions."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


START_OPTIONS = OptimOptions(learning_rate=1.5e-3, batch_size=32, clip=1.0)
START_DATA = DataOptions(domain="A", num_samples=20_000, num_test_samples=1000)
_START_XS = TrainConfig(
    output=Path("runs/start-xs"),
    num_epochs=10,
    keypoint_epochs=6,
    schedule="cosine",
    warmup_epochs=0.1,
    data_options=START_DATA,
    model_options=ModelOptions(model="fastmetro_xs", from_scratch=True),
    optim_options=START_OPTIONS,
)

# The start models: the keypoint head first, then the whole network. TORE-XS takes backbone and
# keypoint head from FastMETRO-XS, which has the same.
RECIPES: dict[str, TrainConfig | FederateConfig] = {
    "start-xs": _START_XS,
    "start-tore-xs": replace(
        _START_XS,
        output=Path("runs/start-tore-xs"),
        num_epochs=4,
        keypoint_epochs=0,
        model_options=ModelOptions(
            model="tore_xs",
            from_scratch=True,
            backbone_weights=Path("runs/start-xs/model.safetensors"),
        ),
    ),
}
