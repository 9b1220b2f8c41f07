"""A clip as arrays: everything that is known, and its parameters under SMPL's names.

Meshes are computed and written a few frames at a time, so a long clip needs no more memory than a
short one.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.config import ShapeExport
from pchmr.predict.motion import even_times, exported
from pchmr.predict.people import Clip
from pchmr.predict.posed import blocks, vertices_of
from pchmr.runs import replacing


def write_clip(path: Path, clip: Clip, body: BodyModel) -> None:
    """Writes the arrays of `Clip` and `vertices` (frames, people, vertices, 3), float32.

    Raises:
        SettingError: The disk is full or the folder cannot be written.
    """
    shape = (*clip.has_person.shape, body.num_vertices, 3)
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, values in vars(clip).items():
            _write_array(archive, name, _plain(values))
        with archive.open("vertices.npy", "w", force_zip64=True) as file:
            head = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, head)
            for rows in blocks(len(clip.time_seconds)):
                file.write(vertices_of(clip, body, rows).astype("<f4").tobytes())


def write_smpl(path: Path, clip: Clip, body: BodyModel, shape: ShapeExport) -> None:
    """Writes SMPL's parameters: `poses` (frames, 72), `trans`, `betas`, `mocap_framerate`.

    Several people stand on an axis after the frames. Axes are the camera's, x right, y down, z
    away; `time_seconds` tells where the rate is not constant. NaN where a person is not there.

    Raises:
        SettingError: The disk is full or the folder cannot be written.
    """
    people = range(len(clip.track_id))
    shapes = [exported(body, clip.betas[p], clip.transl[:, p], shape) for p in people]
    poses = np.concatenate([clip.global_orient[:, :, None], clip.body_pose], axis=2)
    poses = poses.reshape(*clip.has_person.shape, 3 * poses.shape[2])
    num_betas = clip.betas.shape[-1]
    betas = np.stack([b for b, _ in shapes]) if shapes else np.zeros((0, num_betas))
    trans = np.stack([t for _, t in shapes], axis=1) if shapes else np.zeros((len(poses), 0, 3))
    arrays = {"poses": poses, "betas": betas, "trans": trans, "has_person": clip.has_person}
    if len(people) == 1:
        arrays = {name: np.take(a, 0, axis=int(name != "betas")) for name, a in arrays.items()}
    arrays |= {
        "mocap_framerate": np.array(1 / even_times(clip.time_seconds)[1]),
        "time_seconds": clip.time_seconds,
        "gender": np.array(body.gender),
        "track_id": clip.track_id,
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        plain = {name: _plain(values) for name, values in arrays.items()}
        np.savez_compressed(file, **plain)  # pyright: ignore[reportArgumentType]


def _plain(values: ndarray | tuple[str, ...]) -> ndarray:
    """An array that needs no pickle, in single precision but for times."""
    array = np.asarray(values)
    is_time = array.ndim == 1 and array.dtype == np.float64
    return array.astype(np.float32) if array.dtype == np.float64 and not is_time else array


def _write_array(archive: zipfile.ZipFile, name: str, values: ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
