"""What clients keep of a network for themselves: a part of it, or a whole one beside.

A part: the head (FedPer, Arivazhagan et al. 2019, arXiv 1912.00818; FedRep, Collins et al. 2021,
arXiv 2102.07078, whose clients train it first and the rest after), or the scales of normalization
layers (as FedBN, Li et al. 2021, arXiv 2102.07623, for networks without running statistics). A
whole one: Ditto (Li et al. 2021, arXiv 2012.04221) and APFL (Deng et al. 2020, arXiv 2003.13461).
What is kept is a vector among the client's states and never travels. Neighbors among training
images (kNN-Per) are left out: they mix distributions over classes, and a mean of other people's
meshes is no mesh of this one.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pchmr.config import ServerOptions
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.models.trainable import BACKBONE, only_trains

Flat = Float[np.ndarray, " size"]
KEPT, OWN = "kept", "own"
"""Names among a client's vectors: of the part it keeps, and of its whole network."""


def nothing(model: nn.Module) -> set[str]:
    """Every weight travels."""
    return set()


def head(model: nn.Module) -> set[str]:
    """Weights outside the backbone."""
    names = {name for name, _ in model.named_parameters()}
    return {name for name in names if not name.startswith(BACKBONE)}


def scales(model: nn.Module) -> set[str]:
    """Scales and shifts of normalization layers."""
    kinds = (_NormBase, nn.LayerNorm, nn.GroupNorm)
    return {
        f"{path}.{name}" if path else name
        for path, layer in model.named_modules()
        if isinstance(layer, kinds)
        for name, _ in layer.named_parameters(recurse=False)
    }


@dataclass(frozen=True)
class Beside:
    """How a client trains a network of its own beside the common one.

    Attributes:
        start: Where its local epochs start, of its own weights and its end of the common ones.
        finish: Its own weights afterwards, of where these epochs ended and that same end.
        shown: The network that it uses, of its own weights and the common ones.
        is_held: Whether its weights are pulled to the common ones (by `--mu`).
        rate: Share of the learning rate.
    """

    start: Callable[[Flat, Flat, ServerOptions], Flat]
    finish: Callable[[Flat, Flat, ServerOptions], Flat]
    shown: Callable[[Flat, Flat, ServerOptions], Flat]
    is_held: bool
    rate: Callable[[ServerOptions], float]


def _alone(own: Flat, common: Flat, options: ServerOptions) -> Flat:
    return own


def _mixed(own: Flat, common: Flat, options: ServerOptions) -> Flat:
    """share * own + (1 - share) * common, the network that APFL trains and uses."""
    share = np.float32(options.own_share)
    return share * own + (1 - share) * common


def _unmixed(mixed: Flat, common: Flat, options: ServerOptions) -> Flat:
    share = np.float32(options.own_share)
    return (mixed - (1 - share) * common) / share


# Algorithm 1 of the paper with the common network's local epochs first.
DITTO_RULE = Beside(_alone, _alone, _alone, is_held=True, rate=lambda options: 1.0)
# A step on its own weights moves the mixture by their share of it, so the mixture is trained at
# that share of the rate; the common network is held where the client's local epochs left it.
APFL_RULE = Beside(_mixed, _unmixed, _mixed, is_held=False, rate=lambda options: options.own_share)


def show_own(
    model: nn.Module,
    spec: FlatSpec,
    kept: Mapping[str, np.ndarray],
    beside: Beside | None,
    options: ServerOptions,
) -> None:
    """Makes the common network in `model` a client's own, from what the client keeps.

    Args:
        model: Holds the common weights.
        spec: What travels and what is kept.
        kept: Vectors of the client; what it lacks stays common.
        beside: Of the algorithm.
        options: Of the run.
    """
    if KEPT in kept:
        FlatView(model, spec.kept).write(kept[KEPT])
    if beside is not None and OWN in kept:
        view = FlatView(model, spec.parameters)
        view.write(beside.shown(kept[OWN], view.read(), options))


def in_turn(model: nn.Module, kept: set[str], is_last: bool) -> AbstractContextManager[None]:
    """Lets the part that stays train in all local epochs but the last, the rest in that one."""
    return only_trains(model, lambda name: (name in kept) != is_last)
