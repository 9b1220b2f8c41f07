"""Joints of a clip as CSV: a line for each person of each frame, metres in the camera's axes."""

import io
from collections.abc import Iterator

import numpy as np

from pchmr.body import BodyModel
from pchmr.config import ShapeExport
from pchmr.predict.joints import joint_names
from pchmr.predict.motion import exported
from pchmr.predict.people import Clip
from pchmr.predict.posed import blocks, posed

AXES = "xyz"


def table_lines(clip: Clip, body: BodyModel, shape: ShapeExport) -> Iterator[str]:
    """Head, then lines by frame and person; people who are not there have none."""
    columns = [f"{name}_{axis}" for name in joint_names(body) for axis in AXES]
    yield ",".join(["frame", "time_seconds", "track_id", *columns]) + "\n"
    shapes = [
        exported(body, clip.betas[person], clip.transl[:, person], shape)
        for person in range(len(clip.track_id))
    ]
    for rows in blocks(len(clip.time_seconds)):
        table = _joints(clip, body, shapes, rows)
        for frame in range(rows.start, rows.stop):
            for person in np.flatnonzero(clip.has_person[frame]).tolist():
                text = io.StringIO()
                text.write(f"{frame},{clip.time_seconds[frame]:.4f},{clip.track_id[person]}")
                for value in table[person][frame - rows.start].ravel().tolist():
                    text.write(f",{value:.4f}")
                yield text.getvalue() + "\n"


def _joints(
    clip: Clip, body: BodyModel, shapes: list[tuple[np.ndarray, np.ndarray]], rows: slice
) -> list[np.ndarray]:
    """Joints of each person in some frames."""
    return [
        posed(
            body,
            clip.global_orient[rows, person],
            clip.body_pose[rows, person],
            betas,
            transl[rows],
        )[1]
        for person, (betas, transl) in enumerate(shapes)
    ]
