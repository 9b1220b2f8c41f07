"""What the live and review pages promise, measured: in a headless Chromium, on the desk, in Python.

The camera of the browser shows a rendered person who walks. Without a Chromium, or without the
bundles of the pages, a line says so and the other figures are measured. Rates are by the clock on
the wall, so that they say something on a quiet machine alone.
"""

from collections.abc import Callable, Iterator

from pchmr.bench.live.browser import in_the_browser
from pchmr.bench.live.forms import exported_forms
from pchmr.bench.live.refits import refits
from pchmr.config import BenchConfig, UserError
from pchmr.progress import say
from pchmr.results import ResultRow

PARTS: tuple[Callable[[BenchConfig], Iterator[ResultRow]], ...] = (
    refits,
    exported_forms,
    in_the_browser,
)


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the table `live`; a part that cannot be measured here is one line."""
    for part in PARTS:
        try:
            yield from part(config)
        except UserError as error:
            say(f"left out: {error}")
