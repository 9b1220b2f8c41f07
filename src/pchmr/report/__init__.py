"""Run folders in, one HTML page out; and the tables of `results/`."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pchmr.config import ReportConfig
from pchmr.data.errors import InputError
from pchmr.data.synthetic import current_origin
from pchmr.progress import say
from pchmr.report.editions import earlier
from pchmr.report.files import files_of, is_file, may_write
from pchmr.report.page import render, results_section
from pchmr.report.records import find_runs, read_record, worlds_of
from pchmr.report.results import write_results
from pchmr.runs import CONFIG, METRICS, write_bytes

MARK = "<title>pchmr report</title>"  # by it a page of ours is known


def write_report(
    run_folders: Sequence[Path],
    output: Path,
    more: Sequence[Markup] = (),
    *,
    with_pictures: bool = False,
) -> Path:
    """Writes one self-contained page over run folders, or folders of them; returns its path.

    Killed runs are read as far as they came and marked; `more` are sections that follow them. A
    page over private runs is its owner's alone, and shows people `with_pictures` only.

    Raises:
        InputError: A folder does not exist, or none of them holds a run; or another page is there.
    """
    records = [read_record(folder) for folder in find_runs(run_folders)] if run_folders else []
    if not may_write(output, MARK):
        raise InputError(
            f"{output} was not made by `pchmr report`: move it or choose another --output"
        )
    page = render(records, worlds_of(current_origin()), more, with_pictures=with_pictures)
    private = any(record.is_private for record in records)
    write_bytes(output, page.encode("utf-8", "replace"), private=private)
    return output


def run(config: ReportConfig) -> Path:
    """Writes the page over runs and folders of results, and the tables of these; says where."""
    folders = [folder for folder in config.runs if is_results(folder)]
    written = [write_results(folder) for folder in folders]
    rest = [folder for folder in config.runs if folder not in folders]
    path = write_report(
        rest,
        config.output,
        [results_section(folder) for folder in folders],
        with_pictures=config.with_pictures,
    )
    for shown in (*written, path):
        say(f"report: {shown.resolve()}")
    return path


def is_results(folder: Path) -> bool:
    """Whether a folder holds rows of `pchmr bench`, today's or earlier ones, and is no run."""
    is_run = is_file(folder, CONFIG) or is_file(folder, METRICS)
    return not is_run and bool(files_of(folder, "*.jsonl") or earlier(folder))
