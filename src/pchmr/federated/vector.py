"""What of a model trains and travels, as flat vectors in a fixed order.

`FlatSpec` names the parts once: trainable weights, running statistics of normalization layers,
and, under the FedBN policy, what each client keeps. Counters (`num_batches_tracked`) travel
nowhere. Values are copied once in each direction; nothing is concatenated.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.config import SettingError
from pchmr.models.trainable import norm_layers, norm_trains

Flat = Float[np.ndarray, " size"]


@dataclass(frozen=True)
class Slot:
    """The place of one tensor in a flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class FlatSpec:
    """Which tensors of a model stand where in the flat vectors.

    Attributes:
        parameters: Trainable weights that travel.
        buffers: Running statistics that travel; empty unless they are averaged.
        kept: Running statistics and weights that each client keeps; empty unless FedBN or an
            algorithm says so.
    """

    parameters: tuple[Slot, ...]
    buffers: tuple[Slot, ...]
    kept: tuple[Slot, ...]

    @classmethod
    def of(
        cls, model: nn.Module, batch_norm: str = "average", stays: Collection[str] = ()
    ) -> "FlatSpec":
        """The layout for a model and a policy for its normalization layers.

        Args:
            model: Its weights with `requires_grad` travel.
            batch_norm: `average`, `local` (FedBN, Li et al. 2021, arXiv 2102.07623) or `freeze`.
            stays: Names of weights that each client keeps besides.

        Raises:
            SettingError: Nothing is trainable, a weight that travels is not float32, or the policy
                would change nothing.
        """
        statistics, scales = _norm_names(model)
        if batch_norm != "average" and not statistics:
            raise SettingError(
                f"--batch-norm {batch_norm}: no layer that trains keeps running statistics; "
                "leave it out"
            )
        local = set(stays) | (scales if batch_norm == "local" else set())
        trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise SettingError("the model has no trainable weight to federate")
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        travels = {n: p for n, p in trainable.items() if n not in local}
        averaged = {n: tensors[n] for n in statistics} if batch_norm == "average" else {}
        if not travels:
            raise SettingError("the model has no weight that travels: clients keep all of it")
        kept = [*(statistics if batch_norm == "local" else []), *sorted(local & set(trainable))]
        return cls(_slots(travels), _slots(averaged), _slots({n: tensors[n] for n in kept}))

    @cached_property
    def num_parameters(self) -> int:
        """Length of the parameter vector."""
        return self.parameters[-1].stop

    @cached_property
    def num_buffers(self) -> int:
        """Length of the buffer vector."""
        return self.buffers[-1].stop if self.buffers else 0

    @cached_property
    def num_kept(self) -> int:
        """Length of the vector that each client keeps."""
        return self.kept[-1].stop if self.kept else 0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and dtype of all that travels."""
        layout = [
            [(slot.name, slot.shape, "float32") for slot in slots]
            for slots in (self.parameters, self.buffers)
        ]
        return hashlib.sha256(json.dumps(layout).encode()).hexdigest()

    @cached_property
    def variances(self) -> np.ndarray:
        """Which entries of the buffer vector are variances and so never negative."""
        mask = np.zeros(self.num_buffers, dtype=bool)
        for slot in self.buffers:
            mask[slot.start : slot.stop] = slot.name.endswith("running_var")
        return mask


def _norm_names(model: nn.Module) -> tuple[list[str], set[str]]:
    """Names of running statistics and of scales (weight, bias) of normalization layers."""
    statistics, scales = [], set()
    for path, layer in norm_layers(model):
        if not norm_trains(layer):
            continue
        prefix = f"{path}." if path else ""
        for name in ("running_mean", "running_var"):
            if layer._buffers.get(name) is not None:
                statistics.append(f"{prefix}{name}")
        scales |= {f"{prefix}{name}" for name, p in layer._parameters.items() if p is not None}
    return statistics, scales


def _slots(tensors: Mapping[str, Tensor]) -> tuple[Slot, ...]:
    slots, start = [], 0
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise SettingError(f"{name} is {tensor.dtype}; only float32 weights can be federated")
        slots.append(Slot(name, tuple(tensor.shape), start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(slots)


class FlatView:
    """The tensors of one model in the order of some slots, for repeated copies.

    On a CPU the tensors' own memory is read and written; elsewhere values pass through a copy.
    """

    def __init__(self, model: nn.Module, slots: tuple[Slot, ...]) -> None:
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        self.size = slots[-1].stop if slots else 0
        self._slots = slots
        self._tensors = [tensors[slot.name].detach() for slot in slots]
        self._here = [t.numpy() if t.is_cpu else None for t in self._tensors]

    def _pieces(self, flat: Flat) -> Iterator[tuple[np.ndarray, Tensor, np.ndarray | None]]:
        """Each slot's piece of a flat vector, its tensor, and the tensor's memory on a CPU."""
        for slot, tensor, here in zip(self._slots, self._tensors, self._here, strict=True):
            yield flat[slot.start : slot.stop].reshape(slot.shape), tensor, here

    def read(self) -> Flat:
        """The model's values as one vector."""
        out = np.empty(self.size, dtype=np.float32)
        for piece, tensor, here in self._pieces(out):
            np.copyto(piece, tensor.cpu().numpy() if here is None else here)
        return out

    def write(self, values: Flat) -> None:
        """Sets the model's values from one vector."""
        for piece, tensor, here in self._pieces(values):
            if here is None:
                tensor.copy_(torch.tensor(piece))
            else:
                np.copyto(here, piece)

    def take(self, base: Flat, out: Flat) -> Flat:
        """The model's values minus `base`, rounded once; the model is left with `base`.

        One pass does both while a tensor is in the cache, and no trace of training stays.
        """
        pairs = zip(self._pieces(out), self._pieces(base), strict=True)
        for (into, tensor, here), (piece, _, _) in pairs:
            if here is None:
                np.subtract(tensor.cpu().numpy(), piece, out=into)
                tensor.copy_(torch.tensor(piece))
            else:
                np.subtract(here, piece, out=into)
                np.copyto(here, piece)
        return out


class Counters:
    """Integer buffers of normalization layers, put back so that no trace of a client stays."""

    def __init__(self, model: nn.Module) -> None:
        layers = (layer._buffers.get("num_batches_tracked") for _, layer in norm_layers(model))
        self._pairs = [(counter, counter.clone()) for counter in layers if counter is not None]

    def restore(self) -> None:
        """Sets every counter to its value at the start."""
        for counter, start in self._pairs:
            counter.copy_(start)
