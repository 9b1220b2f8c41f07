"""Run folders in, one HTML page out; and the tables of `results/`."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from rich.console import Console

from pchmr.config import ReportConfig
from pchmr.data.synthetic.recipe import RECIPE_VERSION
from pchmr.report.page import render
from pchmr.report.records import find_runs, read_record
from pchmr.report.results import write_results
from pchmr.runs import CONFIG, METRICS, write_bytes


def write_report(run_folders: Sequence[Path], output: Path, more: Sequence[Markup] = ()) -> Path:
    """Writes one self-contained page over run folders, or folders of them; returns its path.

    Killed runs are read as far as they came and marked; `more` are sections that follow them.

    Raises:
        InputError: A folder does not exist, or none of them holds a run.
    """
    records = [read_record(folder) for folder in find_runs(run_folders)]
    write_bytes(output, render(records, str(RECIPE_VERSION), more).encode())
    return output


def run(config: ReportConfig) -> Path:
    """Writes the page over runs, or the tables of a folder of results, and says where it is."""
    folders = [folder for folder in config.runs if is_results(folder)]
    written = [write_results(folder) for folder in folders]
    rest = [folder for folder in config.runs if folder not in folders]
    path = write_report(rest, config.output) if rest else written[-1]
    for shown in (*written, path) if rest else written:
        Console(stderr=True, highlight=False).print(f"report: {shown.resolve()}", soft_wrap=True)
    return path


def is_results(folder: Path) -> bool:
    """Whether a folder holds rows of `pchmr bench`, like `results/`, and is no run."""
    is_run = (folder / CONFIG).exists() or (folder / METRICS).exists()
    return not is_run and any(folder.glob("*.jsonl"))
