"""Makes the README's picture from a run's examples: `python -m pchmr.workshop.picture RUN PATH`.

The best, the median and the worst of its held-out people, a row each: the picture, the truth over
it, the prediction over it and from the side. People who stood before a camera are refused. The one
in the README is of `pchmr evaluate --domain A --num-test-samples 60`.
"""

import io
import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pchmr.config import SettingError, require
from pchmr.examples import RANKS, Picture, draw, read_examples
from pchmr.report.records import read_record
from pchmr.runs import EXAMPLES, write_bytes

QUALITY = 88
NUM_TRUE = 2  # the input, and the truth over it; not the truth from the side


def make(run: Path, path: Path) -> Path:
    """Writes the picture of a run as JPEG; returns its path.

    Raises:
        SettingError: The run shows nobody, or people who are not rendered.
    """
    require(not read_record(run).is_private, f"{run} is of people who stood before a camera")
    examples = read_examples(run / EXAMPLES)
    if examples is None:
        raise SettingError(f"{run} holds no {EXAMPLES}: give a run of `pchmr evaluate`")
    buffer = io.BytesIO()
    Image.fromarray(sheet(list(draw(examples)))).save(buffer, "JPEG", quality=QUALITY)
    write_bytes(path, buffer.getvalue())
    return path


def sheet(pictures: list[Picture]) -> UInt8[np.ndarray, "height width 3"]:
    """The first person of every rank, one below the other."""
    first = [next(p for p in pictures if p.rank == rank) for rank in RANKS]
    rows = [np.concatenate([*p.truth[:NUM_TRUE], *p.prediction], axis=1) for p in first]
    return np.concatenate(rows, axis=0)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), Path(sys.argv[2])))
