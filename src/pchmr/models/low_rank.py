"""Low-rank corrections in place of whole matrices: what trains and travels with `--trainable lora`.

Outside the backbone every matrix W becomes W + B A, of which A and B alone train. They belong to
the model while the run lasts and are added into W at its end, so that what remains is the network
that every other room knows.

Source: Hu et al. 2021, arXiv 2106.09685, section 4.1, with the scale alpha / r = 1.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pchmr.config import SettingError
from pchmr.models.trainable import BACKBONE
from pchmr.seeds import derive_seed

PART = "low_rank"
ATTENTION = "in_proj_weight"


class LowRank(nn.Module):
    """Two factors for each corrected matrix; A is drawn from the seed, B starts at zero."""

    def __init__(self, matrices: dict[str, Tensor], rank: int, seed: int) -> None:
        super().__init__()
        self.names = list(matrices)
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        generator = torch.Generator().manual_seed(derive_seed(seed, "low rank"))
        for matrix in matrices.values():
            rows, columns = matrix.shape
            drawn = torch.randn(rank, columns, generator=generator) / math.sqrt(columns)
            self.down.append(nn.Parameter(drawn.to(matrix.device)))
            self.up.append(nn.Parameter(torch.zeros(rows, rank, device=matrix.device)))

    def corrections(self) -> Iterator[tuple[str, Tensor]]:
        """The name of each matrix, and B A."""
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            yield name, up @ down

    def show(self, model: nn.Module, _: object) -> None:
        """Puts corrected matrices before the frozen ones, for one forward pass."""
        for name, correction in self.corrections():
            owner, attribute = _owner(model, name)
            owner.__dict__[attribute] = owner.get_parameter(attribute) + correction

    def hide(self, model: nn.Module, *_: object) -> None:
        """Takes them away; the graph keeps what the backward pass needs."""
        for name in self.names:
            owner, attribute = _owner(model, name)
            owner.__dict__.pop(attribute, None)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _matrices(model: nn.Module, rank: int) -> dict[str, Tensor]:
    """Matrices of linear layers and attention outside the backbone that a correction shortens."""
    found = {}
    for path, layer in model.named_modules():
        for attribute, weight in layer.named_parameters(recurse=False):
            is_linear = isinstance(layer, nn.Linear) and attribute == "weight"
            fits = (is_linear or attribute == ATTENTION) and min(weight.shape) > rank
            if fits and weight.requires_grad and not path.startswith(BACKBONE):
                found[f"{path}.{attribute}" if path else attribute] = weight
    return found


@contextmanager
def only_low_rank_trains(model: nn.Module, rank: int, seed: int) -> Iterator[None]:
    """Freezes the model but for low-rank corrections, and merges these at the end.

    Raises:
        SettingError: The model has no matrix that a correction of this rank would shorten.
    """
    matrices = _matrices(model, rank)
    if not matrices:
        raise SettingError(
            f"--trainable lora: the model has no matrix wider than --lora-rank {rank}; lower it "
            "or use --trainable all"
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    part = LowRank(matrices, rank, seed)
    model.add_module(PART, part)
    handles = [
        model.register_forward_pre_hook(part.show),
        model.register_forward_hook(part.hide, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, correction in part.corrections():
                matrices[name] += correction
        del model._modules[PART]
        for parameter in trained:
            parameter.requires_grad_(True)
