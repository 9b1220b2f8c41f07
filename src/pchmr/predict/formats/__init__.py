"""A clip in the files that other programs open; by name.

Everything but `npz` and `overlay` is made to be handed on and shows the mean shape unless the
fitted one is asked for: a body's shape can be health or biometric data.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.config import ShapeExport
from pchmr.predict.formats import arrays, bvh, gltf, overlay, table
from pchmr.predict.motion import motions
from pchmr.predict.people import Clip
from pchmr.runs import replacing, write_bytes

Frames = Iterator[tuple[UInt8[ndarray, "height width 3"], float]]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is written.

    Attributes:
        clip: Its people.
        body: Whose parameters they are.
        shape: Shown in files that are made to be handed on.
        frames: Opens the frames of the clip anew.
    """

    clip: Clip
    body: BodyModel
    shape: ShapeExport
    frames: Callable[[], Frames]


def _overlay(stem: Path, export: Export) -> list[Path]:
    path = _beside(stem, "_overlay.mp4")
    overlay.write_overlay(path, export.frames(), export.clip, export.body)
    return [path]


def _glb(stem: Path, export: Export) -> list[Path]:
    path = _beside(stem, ".glb")
    people = motions(export.clip, export.body, export.shape)
    write_bytes(path, gltf.glb_bytes(people, export.body))
    return [path]


def _gltf(stem: Path, export: Export) -> list[Path]:
    path = _beside(stem, ".gltf")
    people = motions(export.clip, export.body, export.shape)
    write_bytes(path, gltf.gltf_text(people, export.body).encode())
    return [path]


def _bvh(stem: Path, export: Export) -> list[Path]:
    written = []
    for motion in motions(export.clip, export.body, export.shape):
        written.append(_beside(stem, f"_person{motion.number}.bvh"))
        write_bytes(written[-1], bvh.bvh_text(motion, export.body).encode())
    return written


def _npz(stem: Path, export: Export) -> list[Path]:
    paths = [_beside(stem, ".npz"), _beside(stem, "_smpl.npz")]
    arrays.write_clip(paths[0], export.clip, export.body)
    arrays.write_smpl(paths[1], export.clip, export.body, export.shape)
    return paths


def _csv(stem: Path, export: Export) -> list[Path]:
    path = _beside(stem, ".csv")
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(table.table_lines(export.clip, export.body, export.shape))
    return [path]


WRITERS: dict[str, Callable[[Path, Export], list[Path]]] = {
    "overlay": _overlay,
    "glb": _glb,
    "gltf": _gltf,
    "bvh": _bvh,
    "npz": _npz,
    "csv": _csv,
}
"""Name of a format -> what writes its files beside a stem, and says which."""


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)
