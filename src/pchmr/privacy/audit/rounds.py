"""Many rounds: who took part is known, so sums are regressed on participation.

Secure aggregation hides an update within a round. A server that sees the sums of many rounds, and
feigns drop-outs so that participation varies even where all clients are always asked, solves for
what each client sends on average. It also learns each client's number of samples, since their sum
is part of every round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pchmr.federated.rounds import apart_cohort
from pchmr.federated.secure.policy import SecurePolicy, threshold_of

SLIGHT = 1e-3  # of the largest singular value: below that a direction is not solved for


@dataclass(frozen=True)
class Season:
    """Rounds of a run.

    Attributes:
        survivors: Whose update is in the sum of each round.
        phase: Which of the replayed models a round had, by number.
    """

    survivors: Bool[np.ndarray, "rounds clients"]
    phase: np.ndarray


def season_of(num_clients: int, cohort: int, num_rounds: int, num_phases: int, seed: int) -> Season:
    """Cohorts as `federate` draws them, and as many feigned drop-outs as a round bears."""
    rng, earlier = np.random.default_rng(seed), list[frozenset[int]]()
    survivors = np.zeros((num_rounds, num_clients), dtype=bool)
    for number in range(num_rounds):
        members = apart_cohort(
            seed,
            number + 1,
            num_clients,
            cohort,
            attempt=0,
            spent=(),
            earlier=earlier,
            least=SecurePolicy().least_difference,
        )
        earlier.append(frozenset(members))
        kept = rng.permutation(members)[: threshold_of(cohort)]
        survivors[number, kept] = True
    phase = np.arange(num_rounds) * num_phases // max(num_rounds, 1)
    return Season(survivors, phase)


def sums_said(
    season: Season,
    said: Float[np.ndarray, "phases clients betas"],
    weights: Float[np.ndarray, " clients"],
) -> Float[np.ndarray, "rounds betas"]:
    """What is said of each round's mean."""
    parts = season.survivors * weights
    parts = parts / parts.sum(1, keepdims=True)
    return np.einsum("rc,rcb->rb", parts, said[season.phase])


def disentangled(
    season: Season,
    told: Float[np.ndarray, "rounds betas"],
    totals: Float[np.ndarray, " rounds"],
) -> Float[np.ndarray, "clients betas"]:
    """What is said of each client, by least squares over all rounds.

    Args:
        season: Who took part.
        told: What is said of each round's mean.
        totals: Sum of weights of each round.
    """
    taken = season.survivors.astype(float)
    weights = np.linalg.lstsq(taken, totals, rcond=SLIGHT)[0]
    parts = taken * np.maximum(weights, 0) / totals[:, None]
    center = told.mean(0)
    shift = np.eye(parts.shape[1]) * SLIGHT * len(parts)
    return (
        np.linalg.solve(parts.T @ parts + shift * parts.max() ** 2, parts.T @ (told - center))
        + center
    )


def lengths_of(num_clients: int) -> Sequence[int]:
    """Numbers of rounds that are tried."""
    return (num_clients // 2, num_clients, 4 * num_clients)
