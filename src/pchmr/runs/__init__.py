"""What runs leave on disk: files written whole, one process a folder, checkpoints, run folders."""

from pchmr.runs.checkpoints import Checkpoint, Checkpoints
from pchmr.runs.environment import commit, environment, num_threads
from pchmr.runs.files import (
    FILE_MODE,
    FOLDER_MODE,
    is_private,
    make_folder,
    make_private,
    replacing,
    sweep,
    write_bytes,
)
from pchmr.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    EXAMPLES,
    EXAMPLES_BEFORE,
    METRICS,
    MODEL,
    START,
    SUMMARY,
    RunFolder,
    settings_of,
)
from pchmr.runs.hashes import file_sha256, shipped, state_sha256
from pchmr.runs.lock import LOCK, alone, locked

__all__ = [
    "CONFIG",
    "ENVIRONMENT",
    "EXAMPLES",
    "EXAMPLES_BEFORE",
    "FILE_MODE",
    "FOLDER_MODE",
    "LOCK",
    "METRICS",
    "MODEL",
    "START",
    "SUMMARY",
    "Checkpoint",
    "Checkpoints",
    "RunFolder",
    "alone",
    "commit",
    "environment",
    "file_sha256",
    "is_private",
    "locked",
    "make_folder",
    "make_private",
    "num_threads",
    "replacing",
    "settings_of",
    "shipped",
    "state_sha256",
    "sweep",
    "write_bytes",
]
