"""Fixture sets in real layouts, written once, and what the readers make of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

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
FRAMES = (0, 5, 10, 15, 64, 65)
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
def bodies(body: BodyModel, arrays, gendered) -> Bodies:
    own = {
        name: BodyModel(gendered[letter], body.hierarchy, gender=name)
        for letter, (name, _) in SCALES.items()
    }
    neutral = BodyModel(arrays, body.hierarchy)
    neutral.by_gender.update(own)
    return Bodies(neutral, own)


def write_sets(root: Path, arrays: dict, gendered: dict, **counts) -> dict[str, Path]:
    """A fixture of every set by name, as its owner would hold it."""
    writers = {
        "3dpw": lambda path: layouts.write_3dpw(path, gendered, **counts),
        "emdb": lambda path: layouts.write_emdb(path, gendered),
        "h36m": lambda path: layouts.write_h36m(
            path, arrays, **({"frames": FRAMES} if counts else {})
        ),
        "tsv": lambda path: layouts.write_tsv(path, arrays, **counts),
        "bedlam": lambda path: layouts.write_npz(
            path, arrays, kind="bedlam", **({"count": 14} if counts else {})
        ),
        "spin": lambda path: layouts.write_npz(
            path, arrays, kind="spin", **({"count": 14} if counts else {})
        ),
        "truth": lambda path: layouts.write_truth(path, arrays, **counts),
    }
    for name, write in writers.items():
        (root / name).mkdir()
        write(root / name)
    return {name: root / name for name in writers}


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory, arrays, gendered) -> dict[str, Path]:
    """Sets of people with the embedded body."""
    return write_sets(tmp_path_factory.mktemp("sets"), arrays, gendered)


@pytest.fixture(scope="session")
def tiny_bodies(tmp_path_factory: pytest.TempPathFactory, tiny_body: BodyModel, request) -> Path:
    """A folder with a tiny body a gender, in the layout of SMPL's, and its mesh levels."""
    folder = tmp_path_factory.mktemp("bodies")
    plain = tiny_arrays_of(tiny_body)
    for name, scale in (("NEUTRAL", 1.0), ("MALE", 1.04), ("FEMALE", 0.97)):
        own = plain | {"v_template": (scale * plain["v_template"]).astype(np.float32)}
        np.savez(folder / f"SMPL_{name}.npz", **own)
    levels_file(folder, tiny_body.hierarchy)
    return folder


def levels_file(folder: Path, levels) -> None:
    """`mesh_downsampling.npz` of some mesh levels."""
    down = [
        csr_matrix((np.ones(len(r)), (range(len(r)), r)), shape=m.shape[::-1])
        for r, m in zip(levels.kept, levels.upsample, strict=True)
    ]
    tables = {"A": [csr_matrix(np.eye(n)) for n in levels.num_vertices],
              "U": list(levels.upsample), "D": down}  # fmt: skip
    whole = {name: np.empty(len(found), dtype=object) for name, found in tables.items()}
    for name, found in tables.items():
        whole[name][:] = found
    np.savez(folder / "mesh_downsampling.npz", **whole)


@pytest.fixture(scope="session")
def write_levels():
    """The function that writes mesh levels beside body files."""
    return levels_file


def tiny_arrays_of(body: BodyModel) -> dict[str, np.ndarray]:
    """Arrays of a body in memory under their SMPL names."""
    names = ("v_template", "shapedirs", "J_regressor", "J_regressor_h36m", "J_regressor_coco",
             "weights")  # fmt: skip
    found = {name: getattr(body, name).numpy() for name in names}
    parents = np.array(body.parents, dtype=np.int64)
    parents[0] = 2**32 - 1
    return found | {"kintree_table": np.stack([parents, np.arange(24)]), "f": body.faces.numpy()}


@pytest.fixture(scope="session")
def tiny_arrays(tiny_body: BodyModel) -> dict[str, np.ndarray]:
    """`tiny_arrays_of` the tiny body."""
    return tiny_arrays_of(tiny_body)


@pytest.fixture(scope="session")
def tiny_sets(
    tmp_path_factory: pytest.TempPathFactory, tiny_arrays: dict[str, np.ndarray]
) -> dict[str, Path]:
    """The same sets of people with the tiny body, enough of them for private clients."""
    plain = tiny_arrays
    own = {
        letter: plain | {"v_template": (scale * plain["v_template"]).astype(np.float32)}
        for letter, (_, scale) in SCALES.items()
    }
    return write_sets(tmp_path_factory.mktemp("tiny_sets"), plain, own, count=10)


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
