"""Progress bars on standard error; silent where nobody watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]

console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """A line for the person who waits."""
    console.print(line)


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """A bar with the time left; yields the function that moves it on by a count."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(title, total=total)
        yield lambda count: bars.advance(task, count)
