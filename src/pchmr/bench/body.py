"""What the body costs and how exact it is: skinning time, upsampling and shape errors."""

import time
from statistics import median

import numpy as np
import torch

from pchmr.body import BodyModel, load_body
from pchmr.body.coarsen import posed_bodies
from pchmr.body.files import embedded_meta
from pchmr.body.levels import upsampling_errors
from pchmr.config import BenchConfig
from pchmr.results import ResultRow, Target, figure
from pchmr.seeds import derive_seed

BATCH = 32
WARMUPS = 3
FORWARDS = 10
NUM_HELD_OUT = 48
FORWARD_TARGET_MS = 35.0
UPSAMPLE_TARGET_MM = 3.5
BETAS_TARGET_MM = 1.5


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `body`: CPU milliseconds on one thread, errors in millimetres."""
    body = load_body()
    times = forward_ms(body, config.repeats)
    bodies = posed_bodies(
        body, NUM_HELD_OUT, np.random.default_rng(derive_seed(0, "bench", "body"))
    )
    upsampling = upsampling_errors(body.hierarchy, bodies)
    coarse = body.hierarchy.num_vertices[-1]
    forward = f"body forward, batch {BATCH}, {body.num_vertices} vertices"
    return [
        _row(f"{forward}, min", min(times), "CPU-ms", FORWARD_TARGET_MS),
        _row(f"{forward}, median", median(times), "CPU-ms", FORWARD_TARGET_MS),
        _row(
            f"upsampling {coarse} -> {body.num_vertices}, {NUM_HELD_OUT} held-out bodies",
            upsampling[f"upsample_{coarse}_mm"],
            "mm",
            UPSAMPLE_TARGET_MM,
        ),
        _row(
            f"{body.num_betas} betas against Anny, held-out shapes (from the asset's build)",
            embedded_meta()["betas_held_out_mm"],
            "mm",
            BETAS_TARGET_MM,
        ),
    ]


def forward_ms(body: BodyModel, repeats: int) -> list[float]:
    """CPU milliseconds of one forward pass, a mean over ten passes for each repeat."""
    generator = torch.Generator().manual_seed(0)
    shapes = (3,), (len(body.parents) - 1, 3), (body.num_betas,), (3,)
    inputs = [torch.randn(BATCH, *shape, generator=generator) for shape in shapes]
    times = []
    with torch.no_grad():
        for _ in range(WARMUPS):
            body(*inputs)
        for _ in range(repeats):
            started = time.process_time()
            for _ in range(FORWARDS):
                body(*inputs)
            times.append(1000.0 * (time.process_time() - started) / FORWARDS)
    return times


def _row(label: str, value: float, unit: str, most: float) -> ResultRow:
    return figure(label, round(value, 3), unit, Target("<=", most))
