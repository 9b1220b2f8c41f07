"""The state of a training after an epoch: weights, buffers, optimizer and rows, as a checkpoint.

Who trains, and on what, is not known here.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pchmr.door import Json
from pchmr.runs.checkpoints import Checkpoint
from pchmr.runs.folder import RunFolder, settings_of
from pchmr.runs.hashes import state_sha256

EMPTY: Mapping[str, Tensor] = MappingProxyType({})


def identity_of(config: Any, model: nn.Module, hashes: Mapping[str, str]) -> dict[str, str]:
    """What a resumed run must share with the one it continues, taken before the first step.

    Args:
        config: Of the run.
        model: Network with its start weights.
        hashes: Of data and whatever else decides the weights.
    """
    text = json.dumps(settings_of(config), sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        **hashes,
        "start weights": state_sha256(model.state_dict()),
    }


def save_state(
    run: RunFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: list[Json],
    identity: dict[str, str],
    beside: Mapping[str, Tensor] = EMPTY,
) -> None:
    """Saves weights, buffers, optimizer state, rows and what stands beside them, whole or not.

    The state before stays beside it, in case this one is damaged later.
    """
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
    tensors |= {f"beside.{name}": t for name, t in beside.items()}
    vectors = {n: t.detach().cpu().contiguous().numpy() for n, t in tensors.items()}
    run.checkpoints.save(Checkpoint(len(rows), vectors, {}, rows, identity))


def load_state(
    run: RunFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, str],
    beside: Mapping[str, Tensor] = EMPTY,
) -> list[Json]:
    """Restores the last whole state that `save_state` wrote; returns the rows up to there.

    What stood beside the weights is copied into the tensors given.

    Raises:
        SettingError: The state is of another run, or none is whole.
    """
    found = run.checkpoints.latest(identity)
    if found is None:
        return []
    tensors = {name: torch.from_numpy(vector) for name, vector in found.vectors.items()}
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, field = name.split(".")
        states.setdefault(int(index), {})[field] = tensor
    groups = optimizer.state_dict()["param_groups"]
    model.load_state_dict(_below("model.", tensors))
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    for name, tensor in _below("beside.", tensors).items():
        beside[name].copy_(tensor)
    return found.rows


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
