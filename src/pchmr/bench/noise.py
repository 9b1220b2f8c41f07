"""Differential privacy: what epsilon costs, and what canaries find; rows of `results/noise.jsonl`.

Ten of ten clients with 24 pictures each, one round from the shipped start weights: too few for a
guarantee that means much, and that is what the rows say. Noise grows with the root of the number of
weights, so the same epsilon costs most where all of them train. Canaries play the mechanism alone.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pchmr.config import (
    BenchConfig,
    DataOptions,
    FederateConfig,
    OptimOptions,
    PrivacyOptions,
    ServerOptions,
)
from pchmr.experiment.scene import open_scene, run_federate
from pchmr.federated.accounting import GaussianNoise, Guarantee, guarantee
from pchmr.federated.secure import Group
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of
from pchmr.privacy.canary import Canaries, empirical_epsilon
from pchmr.results import ResultRow, Target, slug
from pchmr.runs import RunFolder

FILE = "noise"
NUM_CLIENTS, NUM_SAMPLES, NUM_TEST = 10, 240, 60
CLIP = 0.3  # about as long as an update of all weights after one step
NOISES = (None, 0.01, 0.1, 1.0)
PARTS = {"all": "full model", "head": "head", "lora": "low-rank"}
SIZE, NUM_RUNS, NUM_OTHERS = 4096, 20, 200


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Epsilon against MPJPE for each part of the model, then canaries."""
    for part in PARTS:
        for noise in NOISES:
            yield cell(part, noise)
    for aggregation in ("plain", "secure"):
        yield canaries(aggregation, 1.0)


def settings(part: str, noise: float | None, aggregation: str = "plain") -> FederateConfig:
    """A run of one round."""
    privacy = PrivacyOptions(
        aggregation=aggregation,  # type: ignore[arg-type]
        dp_clip=None if noise is None else CLIP,
        dp_noise_multiplier=noise,
    )
    return FederateConfig(
        num_clients=NUM_CLIENTS,
        clients_per_round=NUM_CLIENTS,
        num_rounds=1,
        data_options=DataOptions(num_samples=NUM_SAMPLES, num_test_samples=NUM_TEST),
        optim_options=OptimOptions(batch_size=8),
        server_options=ServerOptions(trainable=part),  # type: ignore[arg-type]
        privacy_options=privacy,
    )


def cell(part: str, noise: float | None) -> ResultRow:
    """One run: its epsilon, and the error of its model."""
    run = settings(part, noise)
    scene = open_scene(run)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_federate(run, scene, RunFolder.create(Path(folder), run))
    told = "no noise" if noise is None else f"noise {noise:g}"
    label = f"{PARTS[part]}, {told}"
    epsilon = outcome.guarantee.epsilon if outcome.guarantee else None
    return ResultRow(
        id=slug(label),
        label=label,
        table=FILE,
        scores={"mpjpe_mm": outcome.scores.row()["mpjpe_mm"], "epsilon": epsilon},
        n=outcome.scores.num_samples,
        differs="10 of 10 clients, one round; the client is the unit",
    )


def canaries(aggregation: str, noise: float) -> ResultRow:
    """Empirical epsilon of one round's mechanism beside the accounted one."""
    present: list[float] = []
    absent: list[float] = []
    for number in range(NUM_RUNS):
        known = Canaries.drawn(NUM_CLIENTS, NUM_OTHERS, SIZE, number)
        vectors = known.sent * np.float32(CLIP)
        total = summed(vectors, noise, is_secure=aggregation == "secure")
        sent, unsent = known.seen(total / np.float32(CLIP))
        present += sent.tolist()
        absent += unsent.tolist()
    accounted = accounted_for(aggregation, noise)
    found = empirical_epsilon(present, absent, accounted.delta)
    label = f"canaries, {aggregation}, noise {noise:g}: empirical epsilon"
    return ResultRow(
        id=slug(label),
        label=label,
        table=FILE,
        scores={"value": found, "epsilon": accounted.epsilon},
        unit="epsilon",
        n=len(present),
        target=Target("<=", round(accounted.epsilon, 3)),
    )


def summed(vectors: np.ndarray, noise: float, *, is_secure: bool) -> np.ndarray:
    """The noised sum of clients' vectors, as a server gets it."""
    if not is_secure:
        total = vectors.sum(0)
        GaussianNoise(noise * CLIP).add(total)
        return total
    clients = make_clients(len(vectors))
    group = Group("delta", vectors.shape[1], CLIP, False, 1)
    offer = make_offer(clients, settings_of(group, bits=32, noise=noise))
    return Rehearsal(offer, clients, [[vector] for vector in vectors]).run().values[0]


def accounted_for(aggregation: str, noise: float) -> Guarantee:
    """What a run of one round with this noise is told to have."""
    run = settings("all", noise, aggregation)
    bits = 32 if aggregation == "secure" else run.privacy_options.secure_bits
    run = replace(run, privacy_options=replace(run.privacy_options, secure_bits=bits))
    found = guarantee(run, 1, SIZE, "at random")
    assert found is not None
    return found
