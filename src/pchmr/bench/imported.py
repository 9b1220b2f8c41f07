"""How fast pictures of an imported set come in and go out: rows a second of import and of training.

The set is made here: rendered people as photos with truth beside them. Rates are of CPU seconds on
one thread, so two cores give twice as much; at 224 px, as the paper's networks see.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig
from pchmr.data.augment import PUBLISHED, changed_batch
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import Job, import_set
from pchmr.data.sets.own import TRUTH
from pchmr.data.sets.part import ReadOptions
from pchmr.data.sets.placing import Bodies
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.results import MEASURED, ResultRow, Target, figure

NUM_PHOTOS, PHOTO_SIDE, CROP_SIDE, BATCH = 64, 480, 224, 32
CORES, RATE = 2, 400
"""Crops a second that are asked for, on so many cores."""
NAMES = ("global_orient", "body_pose", "betas", "transl", "intrinsics")


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of import and of augmented crops."""
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
