"""A world small enough to federate in milliseconds: a regression with a normalization layer."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pchmr.config import FederateConfig, OptimOptions, ServerOptions
from pchmr.data.sample import Sample, Subset
from pchmr.federated import Training, World
from pchmr.runs import RunFolder
from pchmr.seeds import derive_seed

WIDTH, OUT = 10, 3


@dataclass(frozen=True)
class ToyPeople:
    """Rows of a map from shape to place, so that batches are samples like any other."""

    num_rows: int = 120
    image_size: int = 1
    content_hash: str = "toy"

    @property
    def columns(self) -> dict[str, np.ndarray]:
        return {"action": np.arange(self.num_rows) % 4}

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(5)
        x = rng.normal(size=(self.num_rows, WIDTH)).astype(np.float32)
        return x, np.tanh(x @ rng.normal(size=(WIDTH, OUT)).astype(np.float32))

    def __len__(self) -> int:
        return self.num_rows

    def batch(self, indices: Any) -> Sample:
        x, y = self.values
        rows = np.asarray(indices)
        known = torch.ones(len(rows), dtype=torch.bool)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(len(rows), *shape)

        return Sample(
            images=zeros(3, 1, 1),
            keypoints_2d=zeros(14, 3),
            joints=zeros(14, 4),
            global_orient=zeros(3),
            body_pose=zeros(23, 3),
            betas=torch.from_numpy(x[rows]),
            transl=torch.from_numpy(y[rows]),
            intrinsics=zeros(3, 3),
            has_smpl=known,
            has_joints=known,
            has_keypoints_2d=known,
            index=torch.from_numpy(rows.astype(np.int64)),
        )


@dataclass(frozen=True)
class ToyStats:
    num_samples: int
    losses: dict[str, float]


@dataclass(frozen=True)
class ToyEpoch:
    """One pass of mean squared error."""

    batch_size: int

    def __call__(
        self, model: nn.Module, dataset: Any, optimizer: Any, *, seed: int, epoch: float
    ) -> ToyStats:
        model.train()
        order = np.random.default_rng(seed).permutation(len(dataset))
        total = 0.0
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            sample = dataset.batch(rows)
            loss = (model(sample.betas) - sample.transl).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        return ToyStats(len(order), {"mse": total / len(order)})


@dataclass(frozen=True)
class NewOptimizer:
    learning_rate: float
    kind: str

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.requires_grad]
        make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[self.kind]
        return make(weights, lr=self.learning_rate)


class ToyNet(nn.Module):
    """Has a part called backbone, like the real ones."""

    def __init__(self, seed: int = 0, norm: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, "toy"))
            layers = [nn.Linear(WIDTH, 16)] + [nn.BatchNorm1d(16)] * norm + [nn.ReLU()]
            self.backbone = nn.Sequential(*layers)
            self.head = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, OUT))
            if not norm:
                self.head[1] = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def config_of(server: dict[str, Any] | None = None, **changes: Any) -> FederateConfig:
    settings: dict[str, Any] = {
        "num_clients": 6,
        "clients_per_round": 3,
        "num_rounds": 3,
        "seed": 11,
        "optim_options": OptimOptions(learning_rate=1e-2, batch_size=8, clip=100.0),
        "server_options": ServerOptions(**(server or {})),
    }
    return FederateConfig(**settings | changes)


def world_of(
    config: FederateConfig,
    *,
    people: ToyPeople | None = None,
    optimizer: str = "adamw",
    norm: bool = True,
) -> World:
    people = people or ToyPeople()
    options = config.optim_options
    rng = np.random.default_rng(0)
    owner = rng.integers(config.num_clients, size=len(people))
    owner[: config.num_clients] = np.arange(config.num_clients)
    return World(
        model=ToyNet(norm=norm),
        body=None,
        train_set=people,
        partitions=[np.flatnonzero(owner == c) for c in range(config.num_clients)],
        training=Training(
            NewOptimizer(options.learning_rate, optimizer), ToyEpoch(options.batch_size)
        ),
    )


def folder(path: Path) -> RunFolder:
    return RunFolder(path)


def subset(world: World, client_id: int) -> Subset:
    return Subset(world.train_set, world.partitions[client_id])


def again(config: FederateConfig, **changes: Any) -> FederateConfig:
    return replace(config, **changes)
