"""What a round is a function of: its cohort and its clients' seeds, from (seed, round) alone."""

from collections.abc import Collection, Sequence

import numpy as np

from pchmr.federated.secure.policy import may_overlap
from pchmr.seeds import derive_seed


def cohort(
    seed: int,
    round_number: int,
    num_clients: int,
    clients_per_round: int,
    *,
    attempt: int = 0,
    asked: Collection[int] = (),
) -> list[int]:
    """The logical clients of a round, ascending, drawn without replacement by Philox.

    Args:
        seed: Of the run.
        round_number: From 1.
        num_clients: Logical ids are 0 to num_clients - 1.
        clients_per_round: How many to draw.
        attempt: Cohorts that this round already lost.
        asked: Clients of those: none is drawn twice, so later cohorts may be smaller.
    """
    key = derive_seed(seed, "cohort", round_number, attempt)
    rng = np.random.Generator(np.random.Philox(key))
    left = np.setdiff1d(np.arange(num_clients), np.array(sorted(asked), dtype=np.int64))
    size = min(clients_per_round, len(left))
    return sorted(rng.choice(left, size=size, replace=False).tolist()) if size else []


TRIES = 500


def apart_cohort(
    seed: int,
    round_number: int,
    num_clients: int,
    clients_per_round: int,
    *,
    attempt: int,
    spent: Collection[int],
    earlier: Sequence[frozenset[int]],
    least: int,
) -> list[int]:
    """The clients of a round whose updates are summed, ascending; empty if there is no such cohort.

    Any two cohorts that share a client are the same, or each has `least` clients that the other has
    not: the difference of two sums is then of so many.

    Args:
        seed: Of the run.
        round_number: From 1.
        num_clients: Logical ids are 0 to num_clients - 1.
        clients_per_round: How many to draw; never fewer are.
        attempt: Cohorts that this round already lost.
        spent: Clients that may send no vector before the model changes.
        earlier: Cohorts of which vectors may have left.
        least: See above.
    """
    rng = np.random.Generator(np.random.Philox(derive_seed(seed, "cohort", round_number, attempt)))
    left = np.setdiff1d(np.arange(num_clients), np.array(sorted(spent), dtype=np.int64))
    if len(left) < clients_per_round:
        return []
    for _ in range(TRIES):
        found = frozenset(rng.choice(left, size=clients_per_round, replace=False).tolist())
        if all(may_overlap(found, other, least) for other in earlier if found & other):
            return sorted(found)
    again = [sorted(cohort) for cohort in earlier if not cohort & set(spent)]
    return again[int(rng.integers(len(again)))] if again else []


def client_seed(seed: int, epoch: int, client_id: int) -> int:
    """Seed of a client's local epoch, counted from 0 over the whole run.

    Client 0 draws what centralized training draws, so that one client holding all data computes
    exactly one centralized epoch.
    """
    return derive_seed(seed, "client", epoch, client_id)
