"""Fixture sets in real layouts, written once, and what the readers make of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.body.archive import read_npz
from pchmr.body.files import ASSET
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import Job, import_set
from pchmr.data.sets.part import ReadOptions
from pchmr.data.sets.placing import Bodies

sys.path.insert(0, str(Path(__file__).parent))
import layouts

SIZE = 64
SCALES = {"m": ("male", 1.04), "f": ("female", 0.97)}


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    """Of the embedded body, which stands for the neutral one."""
    return read_npz(ASSET)


@pytest.fixture(scope="session")
def gendered(arrays) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of bodies that stand for those of women and men, by letter."""
    return {
        letter: arrays | {"v_template": (scale * arrays["v_template"]).astype(np.float32)}
        for letter, (_, scale) in SCALES.items()
    }


@pytest.fixture(scope="session")
def bodies(body: BodyModel, gendered) -> Bodies:
    own = {
        name: BodyModel(gendered[letter], body.hierarchy, gender=name)
        for letter, (name, _) in SCALES.items()
    }
    return Bodies(body, own)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory, arrays, gendered) -> dict[str, Path]:
    """A fixture of every set by name, as its owner would hold it."""
    root = tmp_path_factory.mktemp("sets")
    writers = {
        "3dpw": lambda path: layouts.write_3dpw(path, gendered),
        "emdb": lambda path: layouts.write_emdb(path, gendered),
        "h36m": lambda path: layouts.write_h36m(path, arrays),
        "tsv": lambda path: layouts.write_tsv(path, arrays),
        "bedlam": lambda path: layouts.write_npz(path, arrays, kind="bedlam"),
        "spin": lambda path: layouts.write_npz(path, arrays, kind="spin"),
        "truth": lambda path: layouts.write_truth(path, arrays),
    }
    for name, write in writers.items():
        (root / name).mkdir()
        write(root / name)
    return {name: root / name for name in writers}


NAMES = {"bedlam": "npz", "spin": "npz"}


def job_of(name: str, source: Path, folder: Path, bodies: Bodies, **options) -> Job:
    reads = ReadOptions(**options)
    return Job(name=NAMES.get(name, name), source=source, folder=folder, bodies=bodies,
               image_size=SIZE, options=reads)  # fmt: skip


@pytest.fixture(scope="session")
def make_job():
    """The function that describes an import."""
    return job_of


@pytest.fixture(scope="session")
def imported(
    tmp_path_factory: pytest.TempPathFactory, sets, bodies: Bodies
) -> dict[str, ImportedPeople]:
    """Every fixture set, imported with gendered truth; all splits of it."""
    root = tmp_path_factory.mktemp("imported")
    found = {}
    for name, source in sets.items():
        import_set(job_of(name, source, root / name, bodies))
        found[name] = ImportedPeople(root / name, None, body=bodies.neutral)
    return found
