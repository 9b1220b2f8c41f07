"""Configs of the verbs that open a page in the user's own browser: live and review."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pchmr.config.errors import require
from pchmr.config.options import ModelOptions

LIVE_PORT, REVIEW_PORT = 8765, 8766
LARGEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """Recover the mesh live in a browser tab on this machine, or with --native in Python."""

    source: Annotated[str | None, tyro.conf.Positional] = None
    """With --native: a video, or the number of a camera (0 without it). The page asks there."""
    native: bool = False
    """Run in Python in place of the page: read a camera or file, write what `--format` names."""
    export: Path | None = None
    """Folder of `pchmr export`; without it, the network of the model options is exported once."""
    form: Literal["default", "fp32", "fp16", "int8"] = "default"
    """Which form of the export runs; default is the one that its card names."""
    port: int = LIVE_PORT
    """Port of the page on this machine; 0 takes any."""
    seconds: float | None = None
    """With --native: stop after so long; without it, at the end of the file or at Ctrl-C."""
    format: str = "bvh,npz"
    """With --native: files to write, by commas, as in `pchmr predict`."""
    output: Path = Path("runs/live")
    """With --native: folder of the files."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Which network, where no export is given; --body is also that of the export."""

    def __post_init__(self) -> None:
        require_port(self.port)
        require(
            self.native or self.source is None,
            f"{self.source}: the page asks for camera or file itself; with --native, it is read",
        )
        ok = self.seconds is None or self.seconds > 0
        require(ok, f"--seconds {self.seconds}: give a positive number")
        require(
            self.form == "default" or self.export is not None,
            f"--form {self.form} chooses among the files of an export: give --export too",
        )


@dataclass(frozen=True, kw_only=True)
class ReviewConfig:
    """Judge and correct labels in a browser tab on this machine, the worst first."""

    labels: Annotated[Path, tyro.conf.Positional]
    """Folder of labels, from `pchmr annotate`."""
    port: int = REVIEW_PORT
    """Port of the page on this machine; 0 takes any."""
    body: Path | None = None
    """Body file that the labels were made with; without it, the embedded body."""
    pose_prior: Path | None = None
    """Pose prior that the labels were made with; without it, the shipped one."""

    def __post_init__(self) -> None:
        require_port(self.port)


def require_port(port: int) -> None:
    """Refuses what is no port."""
    ok = 0 <= port <= LARGEST_PORT
    require(ok, f"--port {port}: give a number from 0 to {LARGEST_PORT}")
