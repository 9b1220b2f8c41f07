"""The networks: `MODELS` by name, `build_model`, published and own checkpoints.

Importing this module is cheap; torch comes with the first network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pchmr.models.specs import MODELS, ModelSpec

if TYPE_CHECKING:
    from pchmr.models.build import build_model
    from pchmr.models.checkpoint import load_checkpoint, load_model, save_checkpoint
    from pchmr.models.hmr import HMRModel
    from pchmr.models.official import load_official, to_official
    from pchmr.models.output import HMROutput

__all__ = [
    "MODELS",
    "HMRModel",
    "HMROutput",
    "ModelSpec",
    "build_model",
    "load_checkpoint",
    "load_model",
    "load_official",
    "save_checkpoint",
    "to_official",
]

_HOMES = {
    "build_model": "build",
    "load_checkpoint": "checkpoint",
    "load_model": "checkpoint",
    "save_checkpoint": "checkpoint",
    "HMRModel": "hmr",
    "load_official": "official",
    "to_official": "official",
    "HMROutput": "output",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
