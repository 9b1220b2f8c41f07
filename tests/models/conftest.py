"""The goldens' rules: topology, weights and images made of numbers alone."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from pchmr.body import MeshHierarchy
from pchmr.models.names import official_names


def rule_upsampling(rows: int, columns: int) -> csr_matrix:
    row = np.arange(rows)
    column = np.stack([7 * row, 7 * row + 13, 7 * row + 101], axis=1) % columns
    weights = np.tile([0.5, 0.3, 0.2], rows)
    return csr_matrix((weights, (np.repeat(row, 3), column.ravel())), shape=(rows, columns))


def rule_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    u = np.random.RandomState(zlib.crc32(key.encode())).uniform(-1, 1, size=shape)
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var":
        value = 1 + 0.5 * u
    elif last == "running_mean":
        value = 0.1 * u
    elif last in ("bias", "in_proj_bias"):
        value = 0.05 * u
    elif len(shape) == 1 or key == "layer_norm.weight":
        value = 1 + 0.1 * u
    elif "_token_embed." in key:
        value = u
    else:
        value = u * np.sqrt(3 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


@pytest.fixture(scope="session")
def synth() -> MeshHierarchy:
    """6890, 1723 and 431 vertices on a ring, each seeing three neighbors to either side."""
    place = np.arange(431)
    distance = np.abs(place[:, None] - place)
    adjacency = np.minimum(distance, 431 - distance) <= 3
    return MeshHierarchy(
        num_vertices=(6890, 1723, 431),
        upsample=[rule_upsampling(6890, 1723), rule_upsampling(1723, 431)],
        adjacency=adjacency,
    )


@pytest.fixture(scope="session")
def ring() -> MeshHierarchy:
    """A small body: 120, 40 and 16 vertices on a ring."""
    place = np.arange(16)
    distance = np.abs(place[:, None] - place)
    return MeshHierarchy(
        num_vertices=(120, 40, 16),
        upsample=[rule_upsampling(120, 40), rule_upsampling(40, 16)],
        adjacency=np.minimum(distance, 16 - distance) <= 1,
    )


@pytest.fixture(scope="session")
def rule_state() -> Callable[[nn.Module], dict[str, Tensor]]:
    """Weights of a model, by the rule over published names."""

    def state(model: nn.Module) -> dict[str, Tensor]:
        own = model.state_dict()
        return {
            name: rule_weight(name, tuple(own[key].shape))
            for key, name in official_names(model).items()
        }

    return state


@pytest.fixture(scope="session")
def rule_images() -> Tensor:
    """Two images in [0, 1] at 224 px."""
    n, c, y, x = np.ogrid[:2, :3, :224, :224]
    wave = np.sin(2 * np.pi * ((n + 1) * x / 56 + (c + 1) * y / 80) + 0.7 * c)
    return torch.from_numpy((0.5 + 0.5 * wave).astype(np.float32))
