"""Which people and start weights a folder of results is about.

They are today's, unless a file of the folder names others: results of earlier people and weights
are kept in a folder of their own below (`results/v1`), where they are not out of date.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pchmr.data.synthetic import current_origin
from pchmr.models.checkpoint import EDITION as EARLIER
from pchmr.models.checkpoint import SHIPPED
from pchmr.report.files import inside, read_json
from pchmr.report.records import worlds_of
from pchmr.runs import file_sha256

EDITION = "edition.json"


@dataclass(frozen=True)
class Edition:
    """People and start weights.

    Attributes:
        worlds: Hash of each rendered world, by domain.
        starts: SHA-256 of the shipped start weights, by network.
    """

    worlds: Mapping[str, str]
    starts: Mapping[str, str]

    def starts_of(self, network: str, *, earlier: bool) -> set[str]:
        """Hashes of a network's start weights: the latest, and earlier ones that still ship."""
        before = f"{network}{EARLIER}"
        return {
            sha
            for name, sha in self.starts.items()
            if name == network or (earlier and name.startswith(before))
        }


def edition_of(folder: Path) -> Edition:
    """That of a folder of results."""
    found = read_json(folder, EDITION)
    if not isinstance(found, dict):
        return todays()
    starts = found.get("starts")
    known = starts if isinstance(starts, dict) else {}
    return Edition(worlds_of(found), {str(name): str(sha) for name, sha in known.items()})


@cache
def todays() -> Edition:
    """What this package renders and ships."""
    weights = {path.stem: file_sha256(path) for path in sorted(SHIPPED.glob("*.safetensors"))}
    return Edition(worlds_of(current_origin()), weights)


def earlier(folder: Path) -> list[Path]:
    """Folders of earlier editions below a folder of results, the latest first."""
    try:
        inner = sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)
    except OSError:
        return []
    return [
        path
        for path in inner
        if inside(folder, path) and isinstance(read_json(path, EDITION), dict)
    ]
