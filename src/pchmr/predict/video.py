"""A video or an animated picture: people of every frame, then of the clip, then the files.

Frames stream: what is kept of them are parameters, never pictures or meshes. The detector begins
anew with each part of the clip, so that a run which was killed and goes on gives the same result.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray
from rich.progress import track

from pchmr.annotate.deposer import Annotator
from pchmr.body import BodyModel
from pchmr.config import PredictConfig
from pchmr.data.animations import animation_frames, is_animation
from pchmr.data.errors import InputError
from pchmr.data.videos import is_video, video_frames
from pchmr.predict.formats import WRITERS, Export, Frames
from pchmr.predict.measures import steadiness
from pchmr.predict.parts import FRAMES, Parts
from pchmr.predict.people import Clip, People
from pchmr.predict.sightings import Sightings, joined, sighting
from pchmr.predict.steady import steady_clip
from pchmr.progress import bar, console, say

Picture = UInt8[ndarray, "height width 3"]


@runtime_checkable
class Look(Protocol):
    """Finds and describes the people of a clip; what it keeps of a frame is small."""

    def see(self, image: Picture, moment: float, previous: Any) -> Any:
        """What it keeps of a frame.

        Args:
            image: The frame.
            moment: Its time in seconds.
            previous: What was kept of the frame before; None begins anew.
        """
        ...

    def people(self, glances: list[Any]) -> list[People]:
        """The people of frames that were seen, frame by frame."""
        ...


def is_clip(path: Path) -> bool:
    """Whether a file holds frames that follow each other."""
    return is_video(path) or is_animation(path)


def clip_frames(path: Path) -> Frames:
    """Upright frames of a video or of an animated picture, each with its time.

    Raises:
        InputError: The file cannot be read.
    """
    return video_frames(path) if is_video(path) else animation_frames(path)


def predict_clip(
    path: Path,
    stem: Path,
    look: Look,
    body: BodyModel,
    config: PredictConfig,
    key: dict[str, str],
    *,
    annotator: Annotator | None = None,
) -> Clip:
    """People of a clip, written in the formats that are asked for.

    Args:
        path: Video or animated picture.
        stem: Of the results.
        look: Finds the people of a frame.
        body: Whose parameters people are.
        config: Smoothing, formats and the shape that leaves.
        key: What decides the people of single frames; a run that was killed goes on under it.
        annotator: Fits all frames of a person together; without it, motion is filtered.

    Raises:
        InputError: The file cannot be read.
        SettingError: A result cannot be written.
    """
    frames = clip_frames(path)
    parts = Parts.open(stem, key)
    read_parts(frames, parts, look)
    seen = joined(parts.done)
    if not len(seen.frame):
        say(f"{path}: no person was found in any of its {len(seen)} frames")
    if config.smoothing == "clip" and annotator is None:
        say("note: nothing fits this clip, so its motion is filtered as it comes, as with live")
    with bar("people over time", len(seen.frame)) as advance:
        clip = steady_clip(
            seen, body, config.smoothing, advance, annotator=annotator, who=config.person
        )
    export = Export(clip=clip, body=body, shape=config.shape, frames=lambda: clip_frames(path))
    for name in config.formats:
        for written in WRITERS[name](stem, export):
            say(f"wrote {written.name}")
    parts.drop()
    tell(clip)
    return clip


def read_parts(frames: Frames, parts: Parts, look: Look) -> None:
    """Looks at all frames that no part holds yet, and keeps them part by part."""
    known, began = parts.num_frames, time.perf_counter()
    if known:
        say(f"going on after {known} frames of an earlier run")
    glances: list[Any] = []
    times: list[float] = []
    count, size = 0, (0, 0)
    for image, moment in _fresh(frames, known):
        glances.append(look.see(image, moment, glances[-1] if glances else None))
        times.append(moment)
        count, size = count + 1, (image.shape[1], image.shape[0])
        if len(glances) == FRAMES:
            parts.add(_part(look, glances, times, size))
            glances, times = [], []
    if glances:
        parts.add(_part(look, glances, times, size))
    if count:
        say(f"{count} frames, {count / (time.perf_counter() - began):.1f} a second")


def _part(look: Look, glances: list[Any], times: list[float], size: tuple[int, int]) -> Sightings:
    pairs = zip(look.people(glances), times, strict=True)
    return joined([sighting(people, moment, *size) for people, moment in pairs])


def _fresh(frames: Frames, known: int) -> Iterator[tuple[Picture, float]]:
    """The frames after those that are known, with a bar for those who wait."""
    shown: Iterable[tuple[Picture, float]] = track(
        frames, description="frames", console=console, transient=True, total=None
    )
    size = None
    for number, (image, moment) in enumerate(shown):
        if size not in (None, image.shape):
            raise InputError(
                f"frame {number} has another size than those before: cut the video there"
            )
        size = image.shape
        if number >= known:
            yield image, moment


def tell(clip: Clip) -> None:
    """Says who is in a clip, and how steady they move."""
    people, frames = len(clip.track_id), len(clip.time_seconds)
    empty = int((~clip.has_person.any(axis=1)).sum()) if people else frames
    gaps = f", {empty} frames without anybody" if empty and people else ""
    say(f"{people} {'person' if people == 1 else 'people'} in {frames} frames{gaps}")
    found = steadiness(clip)
    if found is not None:
        say(found.line)
