"""Progress bars on standard error; silent where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


@dataclass
class Advance:
    """Moves a bar: on by a count when called, or `to` a place."""

    bars: Bars
    task: TaskID

    def __call__(self, count: int) -> None:
        """Moves it on."""
        self.bars.advance(self.task, count)

    def to(self, done: int, total: int) -> None:
        """Puts the bar at `done` of `total`."""
        self.bars.update(self.task, completed=done, total=total)


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
        yield Advance(bars, bars.add_task(title, total=total))
