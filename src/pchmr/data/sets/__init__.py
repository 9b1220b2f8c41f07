"""Data sets of real people: readers of their own layouts, and the one folder that they become.

Nothing of a set ships with the package, and what is imported stays where it was written.
"""

from pchmr.data.sets.emdb import EMDB
from pchmr.data.sets.h36m import H36M
from pchmr.data.sets.metro import METRO_TSV
from pchmr.data.sets.own import OWN
from pchmr.data.sets.part import Reader
from pchmr.data.sets.spin import SPIN_NPZ
from pchmr.data.sets.threedpw import THREE_DPW

__all__ = ["DATASETS"]

DATASETS: dict[str, Reader] = {
    "3dpw": THREE_DPW,
    "emdb": EMDB,
    "h36m": H36M,
    "tsv": METRO_TSV,
    "npz": SPIN_NPZ,
    "truth": OWN,
}
