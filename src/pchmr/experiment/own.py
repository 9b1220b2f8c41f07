"""Scores of clients on held-out images of their own, each with the network that it uses.

With an algorithm that leaves clients networks of their own that is the client's, else the common
one. A simulation knows them all; of real devices nobody but the client would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pchmr.body import BodyModel
from pchmr.config import FederateConfig
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.evaluation import evaluate
from pchmr.federated import ALGORITHMS
from pchmr.federated.client import layout_of
from pchmr.federated.client_state import ClientStates
from pchmr.federated.forgetting import CLIENTS
from pchmr.federated.personal import show_own
from pchmr.models import HMRModel


@dataclass(frozen=True)
class OwnScores:
    """Mean MPJPE of clients on their own held-out images, in mm, by client; None without any."""

    clients_mm: tuple[float | None, ...]

    def plain(self) -> dict[str, object]:
        """Mean, spread and 0.9 quantile over the clients that hold such images."""
        known = np.array([error for error in self.clients_mm if error is not None])
        spread = float(known.std(ddof=1)) if len(known) > 1 else None
        return {
            "num_clients": len(known),
            "mean_mm": float(known.mean()) if len(known) else None,
            "sd_mm": spread,
            "worst_decile_mm": float(np.quantile(known, 0.9)) if len(known) else None,
        }


def own_scores(
    config: FederateConfig,
    model: HMRModel,
    body: BodyModel,
    people: PeopleDataset,
    held: Sequence[np.ndarray],
    folder: Path,
) -> OwnScores:
    """Scores every client; leaves the model with its weights.

    Args:
        config: Of the run.
        model: Holds the common network.
        body: Makes the truth.
        people: Of all clients.
        held: Rows that each client is scored on.
        folder: Of the run, where simulated clients keep what they keep.
    """
    common = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    algorithm, states = ALGORITHMS[config.algorithm], ClientStates(folder / CLIENTS)
    has_own = algorithm.is_personal or config.server_options.batch_norm == "local"
    found: list[float | None] = []
    for client, rows in enumerate(held):
        if has_own:
            spec, kept = layout_of(model, config), states.load(client, config.num_rounds + 1)
            show_own(model, spec, kept, algorithm.beside, config.server_options)
        scored = evaluate(model, body, Subset(people, rows)) if len(rows) else None
        found.append(None if scored is None else scored.mpjpe_mm)
        if has_own:
            model.load_state_dict(common)
    return OwnScores(tuple(found))
