"""Tables of Markdown pages."""

from collections.abc import Sequence

NONE = "–"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], shape: Sequence[str] | None = None
) -> str:
    """A table; `shape` tells how each column is set, to the left by default."""
    lines = [header, shape or ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(cell: str) -> str:
    """Text that stays within its cell."""
    return cell.replace("|", "\\|").replace("\n", " ")
