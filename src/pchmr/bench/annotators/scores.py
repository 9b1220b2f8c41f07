"""One way of annotating on one set of people: errors in mm, signals of quality, time; kept on disk.

Errors are against synthetic truth: compare rows with each other, never with a figure on
photographs. A finished run is kept in the cache folder under everything that decides it, so that a
killed benchmark loses the run it was in and no other.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator, Fit, Start
from pchmr.annotate.keypoints import FOOT_POINTS, HAND_POINTS
from pchmr.annotate.modes import FITTERS
from pchmr.annotate.observed import Observations
from pchmr.annotate.quality import inspect
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_23, EVALUATION_14, SMPL_24
from pchmr.data.synthetic.people import default_cache
from pchmr.metrics import MM_PER_METRE, mpjpe, mpvpe, mrpe, pa_mpjpe
from pchmr.runs import replacing
from pchmr.seeds import derive_seed

BATCH = 32
FAILURE_MM = 150.0
BOOTSTRAPS = 1000
SCORES = ("mpvpe_mm", "mpjpe_mm", "pa_mpjpe_mm", "foot_mm", "hand_mm", "mrpe_mm")
SIGNAL = "signal_"
DECIDING = (
    "annotate/**/*.py",
    "annotate/assets/*",
    "bench/annotators/*.py",
    "body/*.py",
    "data/**/*.py",
    "geometry.py",
    "metrics.py",
    "models/xs.py",
    "perception/**/*.py",
    "perception/assets/*",
    "recipes/**/*.py",
    "seeds.py",
)
"""Files that decide a run: people, what is seen of them, networks, solver and scores."""


@dataclass(frozen=True)
class Run:
    """Scores of one mode on one set of observations, one value a person."""

    scores: dict[str, Float[np.ndarray, " people"]]
    signals: dict[str, np.ndarray]
    ms_per_image: float


def run_mode(
    annotator: Annotator,
    vertices: Float[Tensor, "people vertices 3"],
    observations: Observations,
    mode: str,
    *,
    start: Start | None = None,
    batch: int = BATCH,
    is_placed: bool = True,
) -> Run:
    """Annotates people batch by batch and scores them; time is process CPU time of the fit.

    Args:
        annotator: Body and prior.
        vertices: True meshes.
        observations: What is seen of them.
        mode: One of `FITTERS`.
        start: What a network says of all of them.
        batch: People fitted together.
        is_placed: Whether the true meshes stand where the camera saw them.
    """
    scores: list[dict[str, Tensor]] = []
    signals: list[dict[str, np.ndarray]] = []
    spent = 0.0
    for at in range(0, len(vertices), batch):
        rows = slice(at, at + batch)
        began = time.process_time()
        starts = [] if start is None else [start.take(rows)]
        fit = FITTERS[mode](annotator, observations.take(rows), starts)
        spent += time.process_time() - began
        scores.append(score(annotator, fit, vertices[rows], is_placed=is_placed))
        signals.append(inspect(annotator, fit).signals)
    return Run(
        {name: torch.cat([part[name] for part in scores]).numpy() for name in SCORES},
        {name: np.concatenate([part[name] for part in signals]) for name in signals[0]},
        spent / len(vertices) * 1000,
    )


def score(
    annotator: Annotator,
    fit: Fit,
    truth: Float[Tensor, "people vertices 3"],
    *,
    is_placed: bool = True,
) -> dict[str, Tensor]:
    """Errors in mm about the root, the mean of the hips of the evaluation joints, and its own.

    The root's own error (MRPE) is NaN where the truth is not placed.
    """
    body, found = annotator.body, annotator.vertices(fit)
    root = list(EVALUATION_14.root)
    sides, places = [], []
    for vertices in (found, truth):
        joints = body.regress(vertices, EVALUATION_14)
        center = joints[:, root].mean(dim=1, keepdim=True)
        sides.append((vertices - center, joints - center))
        places.append(center[:, 0])
    (vertices, joints), (true_vertices, true_joints) = sides
    errors = {
        "mpvpe_mm": mpvpe(vertices, true_vertices),
        "mpjpe_mm": mpjpe(joints, true_joints),
        "pa_mpjpe_mm": pa_mpjpe(joints, true_joints),
        "mrpe_mm": mrpe(*places) if is_placed else torch.full_like(places[0][:, 0], torch.nan),
    }
    for name, chosen in (("foot_mm", FOOT_POINTS), ("hand_mm", HAND_POINTS)):
        ends = [_ends(body, part, chosen) for part in (vertices, true_vertices)]
        errors[name] = mpjpe(*ends)
    return {name: value * MM_PER_METRE for name, value in errors.items()}


def _ends(body: BodyModel, vertices: Tensor, chosen: Sequence[str]) -> Tensor:
    """Points regressed from meshes; hand joints by their rest regressor."""
    rows = []
    for point in chosen:
        kind, name = point.split(":")
        rows.append(_row(body, kind, name))
    return torch.einsum("kv,nvx->nkx", torch.stack(rows), vertices)


def _row(body: BodyModel, kind: str, name: str) -> Tensor:
    if kind == "coco":
        return body.get_buffer("J_regressor_coco")[COCO_23.index(name)]
    return body.J_regressor[SMPL_24.index(name)]


def kept(name: str, compute: Callable[[], Run]) -> Run:
    """The run of that name from the cache folder, or computed and kept there.

    The name must say everything that decides the run but the code, which is told apart here.
    """
    key = hashlib.sha256(f"{name}\n{code_sha256()}".encode()).hexdigest()[:24]
    path = default_cache() / "annotators" / f"{key}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        ms = float(arrays.pop("ms_per_image"))
        signals = {n.removeprefix(SIGNAL): v for n, v in arrays.items() if n.startswith(SIGNAL)}
        return Run({n: arrays[n] for n in SCORES}, signals, ms)
    run = compute()
    signals = {f"{SIGNAL}{n}": v for n, v in run.signals.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        arrays = {**run.scores, **signals, "ms_per_image": np.array(run.ms_per_image)}
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return run


def code_sha256() -> str:
    """Hash of everything that decides a fit and its scores."""
    digest = hashlib.sha256()
    root = Path(str(resources.files("pchmr")))
    files = {path for pattern in DECIDING for path in root.glob(pattern) if path.is_file()}
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def interval(
    values: Sequence[Float[np.ndarray, " people"]],
    statistic: Callable[..., np.ndarray],
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a statistic of means over people, drawn with replacement."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    pick = rng.integers(0, len(values[0]), (BOOTSTRAPS, len(values[0])))
    drawn = statistic(*(value[pick].mean(axis=1) for value in values))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
