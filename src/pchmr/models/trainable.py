"""What of a network trains: all of it, its head, its normalization layers; for clients and persons.

Low-rank corrections are in `low_rank.py`. Nothing here knows a federation.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pchmr.config import SettingError

BACKBONE = "backbone."


def norm_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers that keep running statistics, by name."""
    return ((n, layer) for n, layer in model.named_modules() if isinstance(layer, _NormBase))


def norm_trains(layer: nn.Module) -> bool:
    """Whether a normalization layer takes part; one whose scales are frozen stays as it is."""
    scales = [p for p in layer._parameters.values() if p is not None]
    return not scales or any(p.requires_grad for p in scales)


@contextmanager
def frozen_norms(model: nn.Module, every: bool) -> Iterator[None]:
    """Holds normalization layers in evaluation mode, whatever `model.train()` asks.

    Args:
        model: The network.
        every: All of them, or only those whose scales are frozen.
    """
    layers = [layer for _, layer in norm_layers(model) if every or not norm_trains(layer)]

    def stay(layer: nn.Module, mode: bool = True) -> nn.Module:
        return nn.Module.train(layer, False)

    for layer in layers:
        layer.__dict__["train"] = MethodType(stay, layer)
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["train"]


@contextmanager
def only_trains(model: nn.Module, wanted: Callable[[str], bool]) -> Iterator[None]:
    """Takes weights with other names out of training, and puts them back."""
    frozen = [p for n, p in model.named_parameters() if p.requires_grad and not wanted(n)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def only_head_trains(model: nn.Module, active: bool) -> AbstractContextManager[None]:
    """Takes the backbone's weights out of training, and puts them back.

    Raises:
        SettingError: The model has no part called backbone.
    """
    if not active:
        return nullcontext()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if not any(name.startswith(BACKBONE) for name in trained):
        raise SettingError("--trainable head: this model has no backbone; use --trainable all")
    return only_trains(model, lambda name: not name.startswith(BACKBONE))


@contextmanager
def only_norms_train(model: nn.Module) -> Iterator[None]:
    """Takes every weight out of training but scales and shifts of normalization layers."""
    kept = {
        id(p)
        for layer in model.modules()
        if isinstance(layer, (_NormBase, nn.LayerNorm, nn.GroupNorm))
        for p in layer.parameters(recurse=False)
    }
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
