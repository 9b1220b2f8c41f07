"""What the rendered worlds are like and what they cost: checks, render times, contact sheets."""

import os
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, Domain
from pchmr.config.options import DEFAULT_SAMPLES
from pchmr.data import num_workers
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.check import check, contact_sheet
from pchmr.results import ResultRow, Target, figure
from pchmr.runs import write_bytes

FILE = "people"
NUM_CHECKED = 400
NUM_SHOWN = 24
DEFAULT_WORLD = sum(DEFAULT_SAMPLES)
DEFAULT_WORLD_SECONDS = 480.0
IMAGE_SIZE = 112
DOMAINS: tuple[Domain, ...] = ("A", "B", "V", "W")


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `people`; contact sheets go beside it as JPEG."""
    body = load_body()
    rows = []
    for domain in DOMAINS:
        with tempfile.TemporaryDirectory() as cache:
            began = time.process_time()
            people = SyntheticPeople(_recipe(domain, NUM_CHECKED), body, Path(cache))
            spent = time.process_time() - began
            rows.append(_row(f"{domain}: rendering", 1000 * spent / NUM_CHECKED, "CPU-ms/image"))
            rows += _checked(domain, people, body)
            _draw(config.output / f"people_{domain}.jpg", people)
    rows.append(_default_world(body))
    return rows


def _recipe(domain: Domain, count: int) -> SyntheticRecipe:
    return SyntheticRecipe(
        domain=domain, split="train", num_samples=count, image_size=IMAGE_SIZE, seed=0
    )


def _checked(domain: Domain, people: SyntheticPeople, body: BodyModel) -> list[ResultRow]:
    found = check(people, body).summary
    contact, labels = found["contact_cm"], found["labels"]
    worst = max(gap["max"] for gap in contact["support_gap"].values())
    record, inside = labels["joints_from_record_mm"], 100 * labels["joints_inside_person"]
    exact, seen = Target("<=", 0.1), Target(">=", 95)
    return [
        _row(f"{domain}: largest gap under what carries a body", worst, "cm"),
        _row(f"{domain}: deepest vertex below the ground", contact["deepest_below_ground"], "cm"),
        _row(f"{domain}: angle beyond its limit", found["limits"]["drawn_deg"], "degrees"),
        _row(f"{domain}: joints from the record against the picture's", record, "mm", exact),
        _row(f"{domain}: visible joints that lie on the person", inside, "%", seen),
        *(
            _row(f"{domain}: rows whose {name} repeat", float(value), "rows")
            for name, value in found["duplicates"].items()
        ),
    ]


def _default_world(body: BodyModel) -> ResultRow:
    """Seconds to render as many people as commands take by default, by the processes at hand."""
    workers = num_workers(DEFAULT_WORLD)
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        SyntheticPeople(_recipe("B", DEFAULT_WORLD), body, Path(cache), num_workers=workers)
        seconds = time.perf_counter() - began
    what = f"B: {DEFAULT_WORLD} images of {IMAGE_SIZE} px, {max(workers, 1)} of {os.cpu_count()}"
    return _row(f"{what} processors, wall", seconds, "s", Target("<=", DEFAULT_WORLD_SECONDS))


def _draw(path: Path, people: SyntheticPeople) -> None:
    """A contact sheet: the first rows, and the same with their labels drawn over."""
    sheets = [
        Image.open(BytesIO(contact_sheet(people, range(NUM_SHOWN), overlay=overlay)))
        for overlay in (False, True)
    ]
    pictures = np.concatenate([np.asarray(sheet.convert("RGB")) for sheet in sheets])
    buffer = BytesIO()
    Image.fromarray(pictures).save(buffer, format="JPEG", quality=80)
    write_bytes(path, buffer.getvalue())


def _row(label: str, value: float, unit: str, target: Target | None = None) -> ResultRow:
    return figure(label, round(float(value), 4), unit, target)
