"""How the memory of a training step is counted."""

import pytest
import torch

from pchmr.bench.models import peak_mib, training_cost


def test_peak_counts_what_is_held_at_once_and_nothing_older() -> None:
    kept = torch.ones(2**20)

    def work() -> None:
        first, second = torch.ones(2**20), torch.ones(2**19)
        del first
        third = torch.ones(2**18)
        del second, third

    found = peak_mib(work)
    assert found == pytest.approx(6.0, abs=0.1)
    assert peak_mib(work) == pytest.approx(found, abs=1e-3)
    assert len(kept) == 2**20


def test_a_training_step_costs_time_and_memory() -> None:
    spent, held = training_cost("tore_xs", is_plain=False)
    assert spent > 0 and held > 10
