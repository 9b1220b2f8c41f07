"""Features of an update: long tensors folded, with random signs, to a bounded length.

What shapes are read from (vertex tokens, attention of the decoders) stays whole: folding them to
1024 entries cost two thirds of the right answers of a line-up. The backbone tells next to nothing
and is folded to little.

Folding is linear, so the sketch of a sum is the sum of sketches; inner products of a tensor's
updates keep their value on average. The signs are of the audit, not of the run.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from pchmr.federated.vector import Slot
from pchmr.models.trainable import BACKBONE
from pchmr.seeds import derive_seed

WIDTH, BACKBONE_WIDTH = 1 << 16, 256


class Sketch:
    """Folds vectors of one layout.

    Attributes:
        names: Tensors, in order.
        places: Where each stands in a sketch.
        size: Of a sketch.
    """

    def __init__(self, slots: Sequence[Slot], width: int = WIDTH) -> None:
        self._slots = list(slots)
        self.names = [slot.name for slot in slots]
        lengths = [slot.stop - slot.start for slot in slots]
        most = [BACKBONE_WIDTH if name.startswith(BACKBONE) else width for name in self.names]
        self._widths = sizes = [min(pair) for pair in zip(lengths, most, strict=True)]
        ends = np.cumsum([0, *sizes]).tolist()
        self.places = [slice(a, b) for a, b in pairwise(ends)]
        self.size = ends[-1]
        rng = np.random.default_rng(derive_seed(0, "audit sketch"))
        rows = [-(-length // size) for length, size in zip(lengths, sizes, strict=True)]
        self._signs = [rng.choice(np.array([-1, 1], dtype=np.float32), size=n) for n in rows]

    def __call__(self, values: Float[np.ndarray, " size"]) -> Float[np.ndarray, " sketch"]:
        """The sketch of a vector."""
        out = np.zeros(self.size, dtype=np.float32)
        for slot, place, signs in zip(self._slots, self.places, self._signs, strict=True):
            piece, into = values[slot.start : slot.stop], out[place]
            whole, width = len(piece) // len(into), len(into)
            into += signs[:whole] @ piece[: whole * width].reshape(whole, width)
            rest = piece[whole * width :]
            into[: len(rest)] += signs[-1] * rest
        return out

    @cached_property
    def counts(self) -> Float[np.ndarray, " sketch"]:
        """How many entries of a vector meet in each entry: the variance of unit noise there."""
        sizes = [slot.stop - slot.start for slot in self._slots]
        folded = [
            np.bincount(np.arange(size) % width)
            for size, width in zip(sizes, self._widths, strict=True)
        ]
        return np.concatenate(folded).astype(np.float64)
