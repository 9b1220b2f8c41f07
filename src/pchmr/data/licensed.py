"""Files that only their owners may hand out: how they are called, where we look, what they enable.

Data sets are told by their tree, label archives by their columns. Nothing of theirs ships with the
package.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pchmr.data.mocap.poses import is_amass, is_bvh
from pchmr.data.sets import DATASETS
from pchmr.door import FileError

DATA_VARIABLE = "PCHMR_DATA"
MAX_DEPTH = 3
MAX_ENTRIES = 50_000
# Folders with one entry a picture: long to list, and never what is looked for.
SKIPPED_FOLDERS = ("imagefiles", "images", "jpegimages")
PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True)
class LicensedItem:
    """A file or folder that a user may have.

    Attributes:
        patterns: Names it goes by, as lower-case shell patterns.
        finds: Whether a path is it, whatever its name; None for a file that is told by its name.
        enables: What can be done with it.
        source: Where its licence is accepted and the file is handed out.
    """

    patterns: tuple[str, ...]
    finds: Callable[[Path], bool] | None = None
    enables: str
    source: str


SMPL_PAGE = "smpl.is.tue.mpg.de (SMPL model licence)"
SMPLIFY_PAGE = "smplify.is.tue.mpg.de (SMPLify licence)"
METRO_PAGE = "github.com/microsoft/MeshTransformer, docs/DOWNLOAD.md"

SETS = {
    "3DPW": "3dpw",
    "EMDB": "emdb",
    "Human3.6M, parsed": "h36m",
    "METRO TSV files": "tsv",
    "Labels of SPIN or BEDLAM": "npz",
    "Photos of your own with truth": "truth",
}
"""Data sets, and their words for `pchmr data import`."""
RECORDINGS = {"AMASS": "amass", "BVH": "bvh"}
"""Recorded motion, and its words."""
HELD_OUT = ("emdb",)
"""Sets that hold nobody to train on."""
PROTOCOLS = {"3dpw": "3dpw", "emdb": "emdb1", "h36m": "h36m-p2"}


def _of_set(word: str) -> LicensedItem:
    reader, protocol = DATASETS[word], PROTOCOLS.get(word, "all")
    verbs = "evaluate" if word in HELD_OUT else "train, federate, evaluate"
    return LicensedItem(
        patterns=(reader.tree,),
        finds=reader.finds,
        enables=f"pchmr data import {word} {'FILE' if word == 'npz' else 'FOLDER'} DST, then "
        f"--data DST in {verbs}, --protocol {protocol} in evaluate",
        source=reader.page,
    )


POSES = "then pchmr data synth --poses DST"
LICENSED: dict[str, LicensedItem] = {
    "SMPL neutral": LicensedItem(
        patterns=("smpl_neutral.*", "basicmodel_neutral_lbs_*"),
        enables="--body FILE: train and score on SMPL meshes",
        source=SMPLIFY_PAGE,
    ),
    "SMPL male": LicensedItem(
        patterns=("smpl_male.*", "basicmodel_m_lbs_*"),
        enables="--body FOLDER: scores against a gendered body, for data with the column gender",
        source=SMPL_PAGE,
    ),
    "SMPL female": LicensedItem(
        patterns=("smpl_female.*", "basicmodel_f_lbs_*"),
        enables="--body FOLDER: scores against a gendered body, for data with the column gender",
        source=SMPL_PAGE,
    ),
    "J_regressor_h36m": LicensedItem(
        patterns=("j_regressor_h36m*.npy",),
        enables="joints of the papers' protocol on SMPL meshes",
        source=METRO_PAGE,
    ),
    "Mesh levels of SMPL": LicensedItem(
        patterns=("mesh_downsampling.npz",),
        enables="the levels that official checkpoints were trained on",
        source=METRO_PAGE,
    ),
    "Official checkpoints": LicensedItem(
        patterns=("*fastmetro*.bin", "*tore*.bin"),
        enables="--checkpoint FILE: the papers' own weights",
        source="github.com/postech-ami/FastMETRO, github.com/Frank-ZY-Dou/TORE",
    ),
    "ImageNet backbones": LicensedItem(
        patterns=("resnet50*", "hrnet*w64*", "efficientnet*b0*"),
        enables="--backbone-weights FILE: start as the papers do",
        source="pytorch.org/vision/stable/models.html, huggingface.co/timm",
    ),
    **{name: _of_set(word) for name, word in SETS.items()},
    "AMASS": LicensedItem(
        patterns=("*_poses.npz", "*_stageii.npz"),
        finds=is_amass,
        enables=f"pchmr data import amass FOLDER DST, {POSES}",
        source="amass.is.tue.mpg.de",
    ),
    "BVH": LicensedItem(
        patterns=("*.bvh",),
        finds=is_bvh,
        enables=f"pchmr data import bvh FOLDER DST, {POSES}",
        source="mocap.cs.cmu.edu, mixamo.com, your own",
    ),
}


def search_roots(data_root: Path | None = None) -> tuple[Path, ...]:
    """Folders to look in, in order: the one given, or $PCHMR_DATA and ~/.pchmr; torch's cache."""
    home = Path.home()
    torch_home = Path(os.environ.get("TORCH_HOME") or home / ".cache" / "torch")
    if data_root is not None:
        own = (data_root,)
    else:
        named = os.environ.get(DATA_VARIABLE)
        own = ((Path(named),) if named else ()) + (home / ".pchmr",)
    return (*own, torch_home / "hub" / "checkpoints")


def find_licensed(
    roots: Iterable[Path], on_limit: Callable[[Path], None] = lambda root: None
) -> dict[str, list[Path]]:
    """What was found of every item of `LICENSED`, in the order of the roots.

    Looks three folders deep; a folder that cannot be listed counts as empty, pictures are passed
    over.

    Args:
        roots: Folders to look in.
        on_limit: Called with a root that holds more than is looked at.
    """
    found: dict[str, list[Path]] = {name: [] for name in LICENSED}
    for root in roots:
        for path in _walk(root, on_limit):
            for name, item in LICENSED.items():
                if _matches(path, item):
                    found[name].append(path)
    return found


def _walk(root: Path, on_limit: Callable[[Path], None]) -> Iterator[Path]:
    folders, num_entries = [(root, 1)], 0
    while folders:
        folder, depth = folders.pop(0)
        for path in _entries(folder):
            num_entries += 1
            if num_entries > MAX_ENTRIES:
                on_limit(root)
                return
            yield path
            if depth < MAX_DEPTH and path.is_dir() and path.name.lower() not in SKIPPED_FOLDERS:
                folders.append((path, depth + 1))


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.lower().endswith(PICTURES)]
        return [folder / name for name in sorted(names)]
    except OSError:
        return []


def _matches(path: Path, item: LicensedItem) -> bool:
    if item.finds is not None:
        try:
            return item.finds(path)
        except (OSError, FileError):
            return False
    return path.is_file() and any(fnmatch(path.name.lower(), pattern) for pattern in item.patterns)
