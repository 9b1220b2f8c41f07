"""A rendered walk as `predict` sees it through the photo-trained network: steady, and where it is.

Numbers of people, jitter, feet that slide while they truly stand, errors against those of single
frames, frames a second. Needs `pchmr priors get blazepose`.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.bench.start import begun
from pchmr.bench.walks import Walk, render_walk
from pchmr.body import BodyModel
from pchmr.config import BenchConfig, PredictConfig
from pchmr.metrics import MM_PER_METRE, mpjpe
from pchmr.perception.follow import Follower, Follows
from pchmr.predict.measures import derivative, standing_speed
from pchmr.predict.people import Clip
from pchmr.predict.posed import posed
from pchmr.predict.sightings import Sightings, joined, sighting
from pchmr.predict.steady import steady_clip
from pchmr.predict.tools import Tools, open_tools
from pchmr.predict.watching import Watcher
from pchmr.results import MEASURED, ResultRow, Target, figure

WALKER = 0  # place of the only person
FILE = "clips"
SECONDS, FPS, SIZE, SEED = 10.0, 25.0, 256, 0
LIVE_SIDE = 224
FEET = (("left_ankle", "left_foot"), ("right_ankle", "right_foot"))
HIPS = ("left_hip", "right_hip")


def tables(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the table `clips`."""
    tools = open_tools(PredictConfig(images=Path(), output=Path()))
    if tools.annotator is None:
        raise SystemExit("the table of clips needs `pchmr priors get blazepose`")
    yield from begun(tools.body, _figures(tools))


def _figures(tools: Tools) -> Iterator[ResultRow]:
    body = tools.body
    walk = render_walk(body, seconds=SECONDS, fps=FPS, size=SIZE, seed=SEED)
    truth = true_joints(walk, body)
    single, clip = clips_of(walk, tools)
    names = clip.joint_names
    feet = [[names.index(name) for name in side] for side in FEET]
    hips = [names.index(name) for name in HIPS]
    apart = [_error_mm(c.joints[:, WALKER], truth, hips) for c in (single, clip)]
    jitters = [_jitter(joints, walk.time_seconds) for joints in (truth, clip.joints[:, WALKER])]
    slides = [_slide(joints, walk, feet) for joints in (truth, clip.joints[:, WALKER])]
    what = f"walk of {SECONDS:.0f} s, {FPS:.0f} frames a second, {SIZE} px"
    for label, value, unit, target in (
        ("people too many or too few", abs(len(clip.track_id) - 1), "people", Target("<=", 0)),
        ("frames without the person", float((~clip.has_person[:, 0]).sum()), "frames", MEASURED),
        ("MPJPE", apart[1], "mm", MEASURED),
        ("MPJPE over that of single frames", apart[1] / apart[0], "x", Target("<=", 0.9)),
        ("jitter over the truth's", jitters[1] / jitters[0], "x", Target("<=", 1.5)),
        ("standing feet of the truth slide", slides[0], "cm/s", Target("<=", 2)),
        ("standing feet slide", slides[1], "cm/s", Target("<=", 2)),
        ("frames with a standing foot", 100 * walk.contact.any(axis=1).mean(), "%", MEASURED),
    ):
        yield figure(f"{what}: {label}", round(float(value), 3), unit, target)
    rate = live_rate(walk, tools)
    label = f"frames a second of CPU while one person is followed, {LIVE_SIDE} px"
    yield figure(label, round(rate, 1), "1/s", Target(">=", 15))


def clips_of(walk: Walk, tools: Tools) -> tuple[Clip, Clip]:
    """Frames on their own, but for shape and camera; and all fitted together."""
    seen = sightings_of(walk, tools)
    single, clip = (
        steady_clip(seen, tools.body, how, lambda _: None, annotator=tools.annotator)
        for how in ("none", "clip")
    )
    return single, clip


def sightings_of(walk: Walk, tools: Tools) -> Sightings:
    """What the networks and the fit say of each frame."""
    watcher, glances = Watcher(tools, None), []
    for image, moment in zip(walk.images, walk.time_seconds.tolist(), strict=True):
        glances.append(watcher.see(image, moment, glances[-1] if glances else None))
    pairs = zip(watcher.people(glances), walk.time_seconds.tolist(), strict=True)
    size = walk.images.shape[2], walk.images.shape[1]
    return joined([sighting(people, moment, *size) for people, moment in pairs])


def true_joints(walk: Walk, body: BodyModel) -> Float[ndarray, "frames joints 3"]:
    """Named joints of the truth."""
    return posed(body, walk.global_orient, walk.body_pose, walk.betas, walk.transl)[1]


def _error_mm(joints: ndarray, truth: ndarray, hips: list[int]) -> float:
    there = np.isfinite(joints).all(axis=(1, 2))
    sides = [torch.from_numpy(side[there].astype(np.float64)) for side in (joints, truth)]
    mine, theirs = (side - side[:, hips].mean(dim=1, keepdim=True) for side in sides)
    return float(mpjpe(mine, theirs).mean()) * MM_PER_METRE


def _jitter(joints: ndarray, times: ndarray) -> float:
    there = np.isfinite(joints).all(axis=(1, 2))
    third = derivative(joints[there].astype(np.float64), times[there], 3)[0]
    return float(np.linalg.norm(third, axis=-1).mean())


def _slide(joints: ndarray, walk: Walk, feet: list[list[int]]) -> float:
    """Mean speed of standing feet, cm/s."""
    sides = [joints[:, rows].mean(axis=1) for rows in feet]
    points = np.stack(sides, axis=1).astype(np.float64)
    there = np.isfinite(points.reshape(len(points), -1)).all(axis=1, keepdims=True)
    return 100 * standing_speed(points, walk.time_seconds, walk.contact & there)


def live_rate(walk: Walk, tools: Tools) -> float:
    """Frames a second of CPU time of following one person: landmarks, and the detector at times."""
    prior = tools.prior
    if not isinstance(prior, Follows):
        return float("nan")
    inside = slice((SIZE - LIVE_SIDE) // 2, (SIZE + LIVE_SIDE) // 2)
    follower, images = Follower(prior), walk.images[:, inside, inside]
    began = time.process_time()
    for image, moment in zip(images, walk.time_seconds.tolist(), strict=True):
        follower.people(np.ascontiguousarray(image), moment)
    return len(images) / (time.process_time() - began)
