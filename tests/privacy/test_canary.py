"""What canaries find in a noised run lies below what is accounted; without noise it does not."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyStats, config_of, folder, world_of

from pchmr.config import PrivacyOptions
from pchmr.federated import run_federated
from pchmr.federated.accounting import epsilon_of, gaussian_divergence
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.privacy.canary import Canaries, empirical_epsilon, gaussian_epsilon

CLIP, NUM_CLIENTS = 0.5, 10


@dataclass(frozen=True)
class Shouting:
    """An epoch in which a client moves as far as it can in its own direction."""

    canaries: Canaries
    owner: dict[int, int]
    spec: FlatSpec

    def __call__(self, model: Any, dataset: Any, optimizer: Any, *, seed: int, epoch: float) -> Any:
        view = FlatView(model, self.spec.parameters)
        loud = 10 * CLIP * self.canaries.sent[self.owner[int(dataset.rows[0])]]
        with torch.no_grad():
            view.write(view.read() + loud.astype(np.float32))
        return ToyStats(len(dataset), {"mse": 0.0})


def statistics(
    tmp_path: Any, aggregation: str, noise: float, num_runs: int = 4
) -> tuple[list, list, float, float]:
    """Of clients' directions and of nobody's, over some runs; epsilon and delta as accounted.

    The mean over clients is 1 in expectation; of 4 runs at noise 1 its standard error is 0.26.
    """
    present, absent, result = [], [], None
    for number in range(num_runs):
        options = PrivacyOptions(
            aggregation=aggregation,  # type: ignore[arg-type]
            dp_clip=CLIP,
            dp_noise_multiplier=noise,
        )
        server = {"batch_norm": "freeze"}
        config = config_of(
            server,
            num_clients=NUM_CLIENTS,
            clients_per_round=NUM_CLIENTS,
            num_rounds=1,
            privacy_options=options,
        )
        world = world_of(config)
        spec = FlatSpec.of(world.model, "freeze")
        canaries = Canaries.drawn(NUM_CLIENTS, 100, spec.num_parameters, number)
        owner = {int(rows[0]): client for client, rows in enumerate(world.partitions)}
        assert world.training is not None
        world.training = replace(world.training, train_epoch=Shouting(canaries, owner, spec))
        view = FlatView(world.model, spec.parameters)
        before = view.read()
        result = run_federated(config, world, folder(tmp_path / f"{aggregation}{number}"))
        sent, unsent = canaries.seen((view.read() - before) * NUM_CLIENTS / CLIP)
        present += sent.tolist()
        absent += unsent.tolist()
    assert result is not None and result.guarantee is not None
    return present, absent, result.guarantee.epsilon, result.guarantee.delta


@pytest.mark.whole
@pytest.mark.parametrize("aggregation", ["plain", "secure"])
def test_a_canary_finds_less_than_is_accounted(aggregation: str, tmp_path: Any) -> None:
    present, absent, accounted, delta = statistics(tmp_path, aggregation, 1.0, num_runs=16)
    found = empirical_epsilon(present, absent, delta)
    assert 0 < found < accounted
    assert np.mean(present) > 0.5 and abs(np.mean(absent)) < 0.3  # the canaries did arrive


def test_a_canary_finds_more_than_an_account_of_more_noise_than_there_was(tmp_path: Any) -> None:
    """Positive control: a mechanism that adds a tenth of the noise that it accounts for."""
    present, absent, _, delta = statistics(tmp_path, "plain", 0.1)
    wrong = epsilon_of(gaussian_divergence(1.0), 1, delta)
    assert empirical_epsilon(present, absent, delta) > wrong


def test_epsilon_of_two_normal_laws() -> None:
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.3767, abs=2e-3)
    assert gaussian_epsilon(1e-9, 1e-2) == pytest.approx(0, abs=1e-6)
    assert empirical_epsilon([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 1e-2) == 0.0
    assert math.isinf(empirical_epsilon([1.0, 1.0], [0.0, 0.0], 1e-2))
