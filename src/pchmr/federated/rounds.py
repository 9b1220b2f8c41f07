"""What a round is a function of: its cohort and its clients' seeds, from (seed, round) alone."""

import numpy as np

from pchmr.seeds import derive_seed


def cohort(
    seed: int, round_number: int, num_clients: int, clients_per_round: int, *, attempt: int = 0
) -> list[int]:
    """The logical clients of a round, ascending, drawn without replacement by Philox.

    Args:
        seed: Of the run.
        round_number: From 1.
        num_clients: Logical ids are 0 to num_clients - 1.
        clients_per_round: How many to draw.
        attempt: Cohorts that this round already lost.
    """
    key = derive_seed(seed, "cohort", round_number, attempt)
    rng = np.random.Generator(np.random.Philox(key))
    return sorted(rng.choice(num_clients, size=clients_per_round, replace=False).tolist())


def client_seed(seed: int, epoch: int, client_id: int) -> int:
    """Seed of a client's local epoch, counted from 0 over the whole run.

    Client 0 draws what centralized training draws, so that one client holding all data computes
    exactly one centralized epoch.
    """
    return derive_seed(seed, "client", epoch, client_id)
