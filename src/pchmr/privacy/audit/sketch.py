"""Short features of an update: every tensor folded, with random signs, to a bounded length.

Folding is linear, so the sketch of a sum is the sum of sketches; inner products of a tensor's
updates keep their value on average. The signs are of the audit, not of the run.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from pchmr.federated.vector import Slot
from pchmr.seeds import derive_seed

WIDTH = 1024


class Sketch:
    """Folds vectors of one layout.

    Attributes:
        names: Tensors, in order.
        places: Where each stands in a sketch.
        size: Of a sketch.
    """

    def __init__(self, slots: Sequence[Slot], width: int = WIDTH) -> None:
        self._slots, self._width = list(slots), width
        self.names = [slot.name for slot in slots]
        sizes = [min(slot.stop - slot.start, width) for slot in slots]
        ends = np.cumsum([0, *sizes]).tolist()
        self.places = [slice(a, b) for a, b in pairwise(ends)]
        self.size = ends[-1]
        rng = np.random.default_rng(derive_seed(0, "audit sketch"))
        rows = [-(-(slot.stop - slot.start) // width) for slot in slots]
        self._signs = [rng.choice(np.array([-1, 1], dtype=np.float32), size=n) for n in rows]

    def __call__(self, values: Float[np.ndarray, " size"]) -> Float[np.ndarray, " sketch"]:
        """The sketch of a vector."""
        out = np.zeros(self.size, dtype=np.float32)
        for slot, place, signs in zip(self._slots, self.places, self._signs, strict=True):
            piece, into = values[slot.start : slot.stop], out[place]
            whole = len(piece) // self._width
            if whole:
                into += signs[:whole] @ piece[: whole * self._width].reshape(whole, self._width)
            rest = piece[whole * self._width :]
            into[: len(rest)] += signs[-1] * rest
        return out

    @cached_property
    def counts(self) -> Float[np.ndarray, " sketch"]:
        """How many entries of a vector meet in each entry: the variance of unit noise there."""
        sizes = [slot.stop - slot.start for slot in self._slots]
        folded = [np.bincount(np.arange(size) % self._width) for size in sizes]
        return np.concatenate(folded).astype(np.float64)
