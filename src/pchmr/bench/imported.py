"""How fast pictures of an imported set come in and go out: rows a second of import and of training.

The set is made here: rendered people as photos with truth beside them. Rates are of CPU seconds on
one thread, so two cores give twice as much; at 224 px, as the paper's networks see.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from pchmr.bench.memory import forget_peak, peak_bytes
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig
from pchmr.data.augment import PUBLISHED, changed_batch
from pchmr.data.sets.draft import IMAGES, MANIFEST, seal
from pchmr.data.sets.draft import LABELS as LABELS_FILE
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import Job, import_set
from pchmr.data.sets.own import TRUTH
from pchmr.data.sets.part import TEXTS, ReadOptions
from pchmr.data.sets.placing import DETAILS, FLAGS, LABELS, Bodies
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.results import MEASURED, ResultRow, Target, figure

NUM_PHOTOS, PHOTO_SIDE, CROP_SIDE, BATCH = 64, 480, 224, 32
CORES, RATE = 2, 400
"""Crops a second that are asked for, on so many cores."""
NUM_INDEXED, INDEX_MEGABYTES, MB = 1_000_000, 300, 1e6
WIDTHS = {"F32": 4, "U8": 1, "I32": 4, "I64": 8}
NAMES = ("global_orient", "body_pose", "betas", "transl", "intrinsics")


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of import, of augmented crops, and of the memory that a large set takes."""
    torch.set_num_threads(1)
    body = load_body()
    with TemporaryDirectory(prefix="pchmr-bench-") as folder:
        root = Path(folder)
        write_photos(root / "photos", body)
        job = Job(
            name="truth", source=root / "photos", folder=root / "set", bodies=Bodies(body, {}),
            image_size=CROP_SIDE, options=ReadOptions(),
        )  # fmt: skip
        began = time.process_time()
        import_set(job)
        rate = NUM_PHOTOS / (time.process_time() - began)
        label = f"rows imported, photos of {PHOTO_SIDE} px"
        yield figure(label, float(f"{rate:.3g}"), "1/CPU-s", MEASURED)
        rate = augmented_rate(ImportedPeople(root / "set", "train"), 4 * config.repeats)
        label = f"crops of {CROP_SIDE} px decoded and augmented, one core"
        yield figure(label, float(f"{rate:.3g}"), "1/CPU-s", Target(">=", RATE / CORES))
        megabytes = index_megabytes(root / "large", NUM_INDEXED)
        label = "a million rows indexed, memory"
        yield figure(label, float(f"{megabytes:.3g}"), "MB", Target("<=", INDEX_MEGABYTES))


def index_megabytes(folder: Path, count: int) -> float:
    """What opening a set and reading who is where adds to the memory of another process, MB."""
    write_hollow_set(folder, count)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_opened_megabytes, folder).result()


def _opened_megabytes(folder: Path) -> float:
    before = forget_peak()
    people = ImportedPeople(folder, "train")
    assert len(people.columns["frame"]) == len(people)
    return (peak_bytes() - before) / MB


def write_hollow_set(folder: Path, count: int) -> None:
    """An imported set of so many rows without content: holes in files, which cost no disk."""
    shapes = {**LABELS, **DETAILS}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        **{name: ("F32", shape) for name, shape in shapes.items()},
        **dict.fromkeys(FLAGS, ("U8", ())),
        **dict.fromkeys(TEXTS, ("I32", ())),
        **dict.fromkeys(("frame", "end"), ("I64", ())),
    }
    header, at = {}, 0
    for name, (kind, shape) in kinds.items():
        size = WIDTHS[kind] * count * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": [count, *shape], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    with (folder / LABELS_FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + at)
        file.seek(-8, 2)
        file.write((1).to_bytes(8, "little"))  # where the last crop ends: the only byte of all
    (folder / IMAGES).write_bytes(b"x")
    manifest = {
        "about": {"set": "truth"},
        "body_sha256": [],
        "image_size": CROP_SIDE,
        "names": {name: ["train" if name == "split" else "one"] for name in TEXTS},
        "num_rows": count,
        "files": {name: _sha256(folder / name) for name in (IMAGES, LABELS_FILE)},
    }
    manifest["seal"] = seal(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_photos(folder: Path, body: BodyModel) -> None:
    """Rendered people as photos, and their truth beside them."""
    recipe = SyntheticRecipe(domain="B", num_samples=NUM_PHOTOS, image_size=PHOTO_SIDE)
    with TemporaryDirectory(prefix="pchmr-bench-") as cache:
        sample = SyntheticPeople(recipe, body, Path(cache)).batch(range(NUM_PHOTOS))
    folder.mkdir(parents=True)
    names = np.array([f"{row}.jpg" for row in range(NUM_PHOTOS)])
    for name, image in zip(names, sample.images, strict=True):
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name, quality=95)
    labels = {name: getattr(sample, name).numpy() for name in NAMES}
    np.savez(folder / TRUTH, image=names, **labels)


def augmented_rate(people: ImportedPeople, repeats: int) -> float:
    """Augmented crops a CPU second: the median over batches."""
    generator, rows = torch.Generator().manual_seed(0), np.arange(BATCH) % len(people)
    changed_batch(people, rows, generator, PUBLISHED)
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        changed_batch(people, rows, generator, PUBLISHED)
        spent.append(time.process_time() - began)
    return BATCH / float(np.median(spent))
