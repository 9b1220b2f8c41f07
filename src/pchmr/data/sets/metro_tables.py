"""Which rows the YAMLs of METRO's TSV files name, and where the named files lie.

A YAML names its files from its own folder or from the one that training was started in; all must
lie in the folder that is imported. No label is read here.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pchmr.data.errors import InputError
from pchmr.data.sets.part import below, split_of
from pchmr.data.sets.tsv import Tsv, read_yaml


@dataclass(frozen=True)
class Table:
    """The files of one YAML.

    Attributes:
        path: Of the YAML.
        images: Tables of pictures.
        labels: Tables of labels, one a table of pictures.
        rows: Table and line of each row.
    """

    path: Path
    images: list[Tsv]
    labels: list[Tsv]
    rows: list[tuple[int, int]]


def yamls(path: Path) -> list[Path]:
    """YAMLs of a folder, or where it holds none of the folders in it."""
    if not path.is_dir():
        return [path]
    return sorted(path.glob("*.yaml")) or sorted(path.glob("*/*.yaml"))


@dataclass(frozen=True)
class Taken:
    """Lines of tables of labels that a YAML has named before, and which YAML: its place and path.

    Attributes:
        by: Of each table, for each line, 0 or the place of its YAML among those seen, from 1.
        yamls: Those that were seen.
    """

    by: dict[Path, np.ndarray]
    yamls: list[Path] = field(default_factory=list)

    def without_others(self, table: Table) -> tuple[Table, int]:
        """The rows of a table that no other has, and how many others have.

        Raises:
            InputError: Another YAML has some in another split.
        """
        self.yamls.append(table.path)
        rows = []
        for which, line in table.rows:
            labels = table.labels[which]
            by = self.by.setdefault(labels.path, np.zeros(len(labels), dtype=np.int32))
            first = int(by[line]) if 0 <= line < len(by) else 0
            if first and first < len(self.yamls):
                self._require_same_split(self.yamls[first - 1], table.path, labels.path)
                continue
            if 0 <= line < len(by):
                by[line] = len(self.yamls)
            rows.append((which, line))
        return replace(table, rows=rows), len(table.rows) - len(rows)

    def _require_same_split(self, first: Path, second: Path, labels: Path) -> None:
        if split_of(first.stem) != split_of(second.stem):
            raise InputError(
                f"rows of {labels} stand in {first} and in {second}, which are of other splits: "
                "give one of the two"
            )


def read_table(path: Path, root: Path) -> Table:
    """The files and rows of a YAML.

    Args:
        path: Of the YAML.
        root: Folder that all its files must lie in.

    Raises:
        InputError: It is no such YAML, or names what is not there.
    """
    about = read_yaml(path)
    missing = [key for key in ("img", "label") if not about.get(key)]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: give a YAML of METRO's TSV files")
    images, labels = _files(path, root, about["img"]), _files(path, root, about["label"])
    if len(images) != len(labels):
        raise InputError(f"{path} names {len(images)} tables of pictures, {len(labels)} of labels")
    listed = _files(path, root, about.get("linelist", []))
    if not listed:
        rows = [(k, row) for k, image in enumerate(images) for row in range(len(image))]
        return Table(path, images, labels, rows)
    composite = str(about.get("composite", "")).lower() == "true"
    return Table(path, images, labels, _listed(listed[0], composite, images))


def _files(path: Path, root: Path, named: str | list[str]) -> list[Tsv]:
    names = [named] if isinstance(named, str) else named
    return [Tsv(_inside(path.parent, root, name)) for name in names]


def _inside(folder: Path, root: Path, name: str) -> Path:
    """A file that a YAML names: from its folder, or from the folder that training was started in.

    It must lie in the folder that was given, which is that of all sets where a YAML strings
    several together.
    """
    plain = name.isprintable() and not Path(name).is_absolute()
    starts = (folder, root, root.parent) if plain else ()
    inner = [os.path.relpath(os.path.normpath(start / name), root) for start in starts]
    inner = [path for path in inner if not path.startswith("..")]
    there = [path for path in inner if (root / path).is_file()]
    if there or inner:
        return below(root, (there or inner)[0])
    raise InputError(
        f"{folder}: {name[:80]!r} lies outside of {root}: give the folder that holds all sets that "
        "the YAML names"
    )


def _listed(file: Tsv, composite: bool, images: list[Tsv]) -> list[tuple[int, int]]:
    found = []
    for number in range(len(file)):
        words = file.row(number)
        try:
            place = [int(word) for word in words[: 2 if composite else 1]]
        except ValueError:
            place = []
        ok = len(place) == (2 if composite else 1) and (place[0] if composite else 0) >= 0
        if not ok or (composite and place[0] >= len(images)):
            raise InputError(f"{file.path} line {number} names no row: get the file anew")
        found.append((place[0], place[1]) if composite else (0, place[0]))
    return found
