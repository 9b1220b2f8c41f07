"""What a user decides about an audit of a federated run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pchmr.config.errors import require
from pchmr.config.options import ServerOptions
from pchmr.config.privacy import FEWEST, MOST

View = Literal["plain", "secure"]


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Attack what the server of a federated run saw: what does it give away about the clients?

    The run's recipe is played again with rendered people whose shapes and pictures are known; the
    run's own people are not looked at."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder of `pchmr federate`."""
    view: View | None = None
    """What the server saw: plain: every update; secure: the sum of a cohort alone. Without it, as
    the run was carried out."""
    cohort: int | None = None
    """Clients of a sum; without it, as in the run."""
    trainable: Literal["all", "head", "lora"] | None = None
    """What of the model trains and travels; without it, as in the run."""
    data: Path | None = None
    """Folder of rendered people to play the clients, in place of people drawn for the audit: those
    with the most pictures are attacked, the others teach. None of them may be in the run."""
    output: Path | None = None
    """Folder for audit-VIEW.json and audit-VIEW.html; without it, the run folder."""
    seed: int = 0
    """Seed that draws the people of the audit and what attacks leave to chance."""
    quick: bool = False
    """Few people and short attacks: a look at the page in a minute; its figures say little."""
    cache: Path | None = None
    """Folder for rendered people (default: $PCHMR_CACHE or ~/.cache/pchmr)."""

    def __post_init__(self) -> None:
        size = self.cohort
        require(
            size is None or FEWEST <= size <= MOST,
            f"--cohort must lie in {FEWEST} .. {MOST}: sums of fewer or more are not taken",
        )


def retrained(options: ServerOptions, trainable: str | None) -> ServerOptions:
    """The server's options with another part of the model trained."""
    if trainable is None or trainable == options.trainable:
        return options
    return replace(options, trainable=trainable, lora_rank=8)
