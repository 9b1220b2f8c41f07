"""What a person who waits reads: lines and progress bars on standard error, one console for all.

Names of files and words of others are shown as they are: nothing in them is markup, and what would
move the cursor or color the screen is written out.
"""

import unicodedata
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


BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # change the order of letters
console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(line: str) -> None:
    """A line for the person who waits."""
    console.print(printable(line))


def printable(text: str) -> str:
    """The text with control characters and bytes of no letter written out as escapes."""
    return "".join(_escaped(letter) if _hides(letter) else letter for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()


def _hides(letter: str) -> bool:
    """Whether a terminal would obey the letter rather than show it."""
    return letter in BIDI or (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t")


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """A bar with the time left; yields the function that moves it on by a count."""
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield Advance(bars, bars.add_task(title, total=total))
