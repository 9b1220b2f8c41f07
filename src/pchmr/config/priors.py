"""Config of the verb that fetches networks of others and lists them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pchmr.config.errors import require

FETCHABLE = ("blazepose",)


@dataclass(frozen=True, kw_only=True)
class PriorsConfig:
    """Fetch a photo-trained pose network (`get blazepose`), or list what is here (`list`)."""

    task: Annotated[Literal["get", "list"], tyro.conf.Positional]
    """What to do."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """Network to get: blazepose."""
    to: Path | None = None
    """Data folder, in whose priors/NAME the files are kept (default: $PCHMR_DATA or ~/.pchmr)."""
    file: Path | None = None
    """The wheel, downloaded elsewhere: no network is touched."""

    def __post_init__(self) -> None:
        known = ", ".join(FETCHABLE)
        if self.task == "get":
            require(self.name in FETCHABLE, f"unknown prior {self.name}; known: {known}")
        else:
            require(self.name is None, f"`priors list` lists all: leave {self.name} out")
            require(self.file is None, "--file is for `priors get`: leave it out")
