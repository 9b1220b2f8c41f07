"""Figures of the paper this package implements, as it printed them: real data, licensed bodies.

Reference only. They never stand in one table with figures of rendered people.
"""

from dataclasses import dataclass

CITATION = (
    "Cao, Wu, Dou, Xu, Liu, Fernandez-Marques, Lane, Komura, Wang: PCHMR: Empowering and "
    "Benchmarking Human Mesh Recovery in Privacy-Constrained Real-World Settings, 2025."
)


@dataclass(frozen=True)
class PaperRow:
    """MPJPE and PA-MPJPE in mm of one setting, for both backbones of the paper."""

    setting: str
    fastmetro_s: tuple[float, float]
    tore_s: tuple[float, float]


# Client scale on Human3.6M: clients in total, clients per round.
CLIENT_SCALE = (
    PaperRow("centralized", (57.98, 40.62), (63.88, 41.99)),
    PaperRow("federated, 10 clients, 10 per round", (56.85, 40.52), (61.27, 41.60)),
    PaperRow("federated, 100 clients, 10 per round", (59.31, 41.48), (62.92, 43.11)),
    PaperRow("federated, 1000 clients, 10 per round", (60.82, 44.53), (66.04, 44.04)),
)
