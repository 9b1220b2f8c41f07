"""A clip with everybody's mesh drawn over its frames, as MP4."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.data.crops import fitted
from pchmr.predict.drawing import color_of, draw
from pchmr.predict.people import Clip
from pchmr.predict.posed import vertices_of
from pchmr.runs import replacing

LONGEST_SIDE = 1280
TICKS = 1000  # a second
CODECS = ("libx264", "mpeg4")
USUAL_RATE = 30


def write_overlay(
    path: Path,
    frames: Iterator[tuple[UInt8[ndarray, "height width 3"], float]],
    clip: Clip,
    body: BodyModel,
) -> None:
    """Writes the frames of a clip with its people drawn over them, each at its own time.

    Raises:
        SettingError: The disk is full or the folder cannot be written.
    """
    import av

    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        codec = next(name for name in CODECS if name in av.codecs_available)
        last = -1
        stream: Any = None
        for row, (image, time) in enumerate(frames):
            if row >= len(clip.time_seconds):
                break
            drawn = even_sides(draw_people(shrunk(image), image.shape, clip, body, row))
            if stream is None:
                stream = container.add_stream(codec, rate=USUAL_RATE)
                stream.height, stream.width, stream.pix_fmt = *drawn.shape[:2], "yuv420p"
                stream.codec_context.time_base = Fraction(1, TICKS)
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            last = max(round(time * TICKS), last + 1)
            frame.pts, frame.time_base = last, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def shrunk(image: UInt8[ndarray, "height width 3"]) -> UInt8[ndarray, "shown across 3"]:
    """A copy of the frame with at most `LONGEST_SIDE` pixels a side."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    return fitted(image, max(round(width * scale), 2), max(round(height * scale), 2)).copy()


def even_sides(image: UInt8[ndarray, "height width 3"]) -> UInt8[ndarray, "rows columns 3"]:
    """The picture without an odd last row or column, which encoders refuse."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def draw_people(
    canvas: UInt8[ndarray, "shown across 3"],
    full: tuple[int, ...],
    clip: Clip,
    body: BodyModel,
    row: int,
) -> UInt8[ndarray, "shown across 3"]:
    """Draws everybody of a frame over it, in place, the farthest first."""
    camera = torch.as_tensor(clip.intrinsics, dtype=torch.float32).clone()
    camera[0] *= canvas.shape[1] / full[1]
    camera[1] *= canvas.shape[0] / full[0]
    vertices = torch.as_tensor(vertices_of(clip, body, slice(row, row + 1))[0])
    people = np.flatnonzero(clip.has_person[row]).tolist()
    for person in sorted(people, key=lambda p: -float(vertices[p, :, 2].mean())):
        color = color_of(int(clip.track_id[person]))
        draw(canvas, vertices[person], body.faces.cpu(), camera, color)
    return canvas
