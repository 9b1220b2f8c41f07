"""Run folders in, one HTML page out; and the tables of `results/`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pchmr.config import ReportConfig
from pchmr.data.synthetic.recipe import RECIPE_VERSION
from pchmr.report.page import render
from pchmr.report.records import find_runs, read_record
from pchmr.runs import write_bytes


def write_report(run_folders: Sequence[Path], output: Path) -> Path:
    """Writes one self-contained page over run folders, or folders of them; returns its path.

    Killed runs are read as far as they came and marked.

    Raises:
        InputError: A folder does not exist, or none of them holds a run.
    """
    records = [read_record(folder) for folder in find_runs(run_folders)]
    write_bytes(output, render(records, str(RECIPE_VERSION)).encode())
    return output


def run(config: ReportConfig) -> Path:
    """Writes the page and says where it is."""
    path = write_report(config.runs, config.output)
    Console(stderr=True, highlight=False).print(f"report: {path.resolve()}", soft_wrap=True)
    return path
