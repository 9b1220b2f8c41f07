"""Bundles the pages' scripts into the wheel, and beside the sources of an editable install."""

import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface):
    """Runs `pchmr.workshop.pages`; a build without npm goes on without the pages."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Builds before files are collected; they are ignored by git, so they are named."""
        source = Path(self.root) / "src"
        sys.path.insert(0, str(source))
        try:
            from pchmr.workshop.pages import ASSETS, PagesNotBuilt, build
        finally:
            sys.path.remove(str(source))
        try:
            build()
        except (PagesNotBuilt, OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"pchmr live and review come without scripts: {error}")
            return
        build_data["artifacts"].append(ASSETS.relative_to(self.root).as_posix())
