"""Sets results of today's people and start weights aside: `python -m pchmr.workshop.retire v1`.

To be run before people or start weights change. All rows and contact sheets of `results/` move to
`results/v1`, with the hashes that they are about; what is measured next begins anew.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from pchmr.report.editions import EDITION, todays
from pchmr.report.results import write_results
from pchmr.runs import write_bytes

RESULTS = Path("results")


def retire(name: str, folder: Path = RESULTS) -> Path:
    """Moves what was measured into a folder of its own; returns it."""
    kept = folder / name
    kept.mkdir()
    write_bytes(kept / EDITION, (json.dumps(asdict(todays()), indent=1) + "\n").encode())
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jpg")]):
        path.rename(kept / path.name)
    for each in (kept, folder):
        write_results(each)
    return kept


if __name__ == "__main__":
    print(retire(sys.argv[1]))
