"""What a correction costs on the review desk: refit, writing it, and the label for the page."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.prior import load_prior
from pchmr.bench.live.labeled import FOCAL, write_labels, write_long_clip
from pchmr.bench.models import cpu_ms, row
from pchmr.body import load_body
from pchmr.config import BenchConfig
from pchmr.device.desk import Desk
from pchmr.device.review import answered
from pchmr.results import ResultRow, Target

CLIP_FRAMES = 150
LONGEST = Target("<=", 300)
STEP = 4.0  # pixels that a keypoint is dragged by


def refits(config: BenchConfig) -> Iterator[ResultRow]:
    """Median of drags in a photo, and in a clip whose labels are one file."""
    annotator = Annotator(load_body(), load_prior(None))
    for words, frames in (("a photo", 1), (f"a clip of {CLIP_FRAMES} frames", CLIP_FRAMES)):
        with TemporaryDirectory(prefix="pchmr-bench-") as name:
            spent = _drags(annotator, Path(name), frames, config.repeats)
        yield row(f"review, one refit in {words}", spent, "CPU-ms", LONGEST)


def _drags(annotator: Annotator, folder: Path, frames: int, repeats: int) -> float:
    """Median CPU milliseconds of a drag, from what the page says to what it is told."""
    if frames == 1:
        labels = write_labels(folder, annotator.body, 1)
    else:
        labels = write_long_clip(folder, annotator.body, frames)
    desk = Desk.open(labels, annotator)
    x, y = desk.label(0)["keypoints_2d"][0, 0, :2].tolist()
    spent = []
    for turn in range(repeats + 1):
        place = {"x": x + STEP * (turn % 3), "y": min(y + STEP, FOCAL)}
        said = {"row": 0, "action": "drag", "keypoint": 0, **place}
        cost = cpu_ms(lambda said=said: _checked(answered(desk, said)))
        spent += [cost] if turn else []
    return statistics.median(spent)


def _checked(answer: dict[str, object]) -> None:
    assert "label" in answer, answer
