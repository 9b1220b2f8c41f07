"""What was seen of a person, frame by frame: the `--observations` file and its checks.

Arrays of the .npz: `keypoints_2d` (N, K, 3) pixels and confidence, `keypoint_names` (K,),
`image_size` (N, 2) width and height, and optionally `keypoint_sigma` (N, K) standard deviation in
pixels, `intrinsics` (N, 3, 3), `focal_sd` () the standard deviation of the log focal length (0
trusts the intrinsics), `keypoint_depth` (N, K) depth of the surface seen at each keypoint,
`keypoint_depth_sigma` (N, K) its standard deviation in metres on the person, `points` (N, P, 3)
metres of the visible surface in the camera frame, and `depth_kind` () one of "metric", "relative"
(metres about an unknown distance), "affine" (any unit), "affine_disparity" (its inverse). `fps` ()
is the frame rate of a video. NaN marks what is missing; rows of NaN pad `points`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pchmr.data.errors import UNREADABLE, InputError
from pchmr.perception.interfaces import DepthKind
from pchmr.perception.names import read_names

DEPTH_KINDS: tuple[DepthKind, ...] = ("metric", "relative", "affine", "affine_disparity")
REQUIRED = ("keypoints_2d", "keypoint_names", "image_size")
OPTIONAL = (
    "keypoint_sigma", "intrinsics", "focal_sd", "keypoint_depth", "keypoint_depth_sigma", "points",
    "depth_kind", "fps",
)  # fmt: skip
ARRAYS = (
    "keypoints_2d", "image_size", "keypoint_sigma", "intrinsics", "keypoint_depth",
    "keypoint_depth_sigma", "points",
)  # fmt: skip
MAX_FILE_BYTES = 2 * 2**30
SEEN = 0.05  # confidence above which a keypoint counts as observed
LEAST_SEEN = 4
FAR = 10.0  # picture sides beside the picture from which a keypoint counts as missing
LARGEST_FPS = 1e4
LARGEST, LARGEST_PIXELS = 1e15, 1e7  # depth in any unit; entries of a camera matrix
LARGEST_SKEW = 1e-3  # of the focal length


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Observations of N frames of one person; see the module for shapes and units."""

    keypoints_2d: Float[ndarray, "frames keypoints 3"]
    keypoint_names: tuple[str, ...]
    image_size: Int[ndarray, "frames 2"]
    keypoint_sigma: Float[ndarray, "frames keypoints"] | None = None
    intrinsics: Float[ndarray, "frames 3 3"] | None = None
    focal_sd: float = 0.0
    keypoint_depth: Float[ndarray, "frames keypoints"] | None = None
    keypoint_depth_sigma: Float[ndarray, "frames keypoints"] | None = None
    points: Float[ndarray, "frames points 3"] | None = None
    depth_kind: DepthKind = "metric"
    fps: float | None = None

    def __len__(self) -> int:
        return len(self.keypoints_2d)

    @property
    def num_seen(self) -> Int[ndarray, " frames"]:
        """Keypoints of each frame that the body has and that were observed."""
        table = self.keypoints_2d[:, list(read_names(self.keypoint_names).columns)]
        finite = np.isfinite(table).all(axis=-1)
        return (finite & (np.nan_to_num(table[..., 2]) > SEEN)).sum(axis=1)

    def take(self, rows: ndarray | slice) -> "Observations":
        """Some frames."""
        values = {name: getattr(self, name) for name in ARRAYS}
        return replace(self, **{n: None if v is None else v[rows] for n, v in values.items()})


def load_observations(path: Path) -> Observations:
    """Reads and checks an observations file; nothing in it is executed.

    Raises:
        InputError: One line that says what is wrong and what to write instead.
    """
    arrays = _read(path)
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise InputError(f"{path} lacks {missing[0]}: it must hold {', '.join(REQUIRED)}")
    unknown = sorted(set(arrays) - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise InputError(
            f"{path} holds {unknown[0]}, which we do not read: leave it out or rename it to one of "
            f"{', '.join(OPTIONAL)}"
        )
    try:
        return check_observations(arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, ndarray]:
    if not path.is_file():
        raise InputError(f"observations {path} do not exist: check the path")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than 2 GiB: split it into clips")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise InputError(
            f"cannot read observations {path}: {str(error) or type(error).__name__}; write plain "
            "arrays with numpy.savez (no Python objects)"
        ) from None


def check_observations(arrays: dict[str, ndarray]) -> Observations:
    """Observations from arrays under the names of the file format.

    Raises:
        InputError: A shape, a kind or a value that cannot be used.
    """
    keypoints = _floats(arrays, "keypoints_2d", ("N", "K", 3), {})
    assert keypoints is not None
    sizes: dict[str, int] = {"N": keypoints.shape[0], "K": keypoints.shape[1]}
    if not len(keypoints):
        raise InputError("keypoints_2d holds no frame: give at least one")
    names = _names(arrays["keypoint_names"], sizes["K"])
    image_size = _floats(arrays, "image_size", ("N", 2), sizes)
    assert image_size is not None
    if not (np.isfinite(image_size).all() and (image_size >= 1).all()):
        raise InputError("image_size must hold width and height in pixels, at least 1")
    read_names(names)
    depth = _bounded(_floats(arrays, "keypoint_depth", ("N", "K"), sizes))
    points = _bounded(_floats(arrays, "points", ("N", "P", 3), sizes))
    if depth is not None and not np.isfinite(depth).any():
        raise InputError("keypoint_depth holds no finite value: leave it out, or write metres")
    if points is not None and not (np.isfinite(points).all(axis=-1) & (points[..., 2] > 0)).any():
        if depth is None:
            raise InputError(
                "points holds no finite row before the camera: leave it out, or write metres"
            )
        points = None
    return Observations(
        keypoints_2d=without_far(keypoints, image_size),
        keypoint_names=names,
        image_size=image_size.round().astype(np.int64),
        intrinsics=_intrinsics(_floats(arrays, "intrinsics", ("N", 3, 3), sizes)),
        focal_sd=_focal_sd(arrays),
        keypoint_sigma=_sigma(arrays, "keypoint_sigma", sizes),
        keypoint_depth=depth,
        keypoint_depth_sigma=_sigma(arrays, "keypoint_depth_sigma", sizes),
        points=points,
        depth_kind=_depth_kind(arrays, depth is not None or points is not None),
        fps=_fps(arrays),
    )


def _floats(
    arrays: dict[str, ndarray], name: str, shape: tuple[str | int, ...], sizes: dict[str, int]
) -> ndarray | None:
    """A float array of the given shape; letters stand for sizes, `P` for any."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has type {array.dtype}: write numbers")
    wanted = tuple(sizes.get(s, s) if isinstance(s, str) else s for s in shape)
    fits = array.ndim == len(wanted) and all(
        isinstance(w, str) or w == n for w, n in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        text = ", ".join(str(w) for w in wanted)
        raise InputError(f"{name} has shape {array.shape}, expected ({text})")
    return array.astype(np.float64)


def without_far(
    keypoints: Float[ndarray, "frames keypoints 3"], image_size: Float[ndarray, "frames 2"]
) -> Float[ndarray, "frames keypoints 3"]:
    """Keypoints, NaN for those that lie more than `FAR` picture sides beside the picture."""
    side = image_size.max(axis=1)[:, None, None]
    far = np.abs(keypoints[..., :2] - image_size[:, None] / 2) > (FAR + 0.5) * side
    return np.where(far.any(axis=-1, keepdims=True), np.nan, keypoints)


def _bounded(array: ndarray | None) -> ndarray | None:
    """Depths, NaN for numbers that are none."""
    return None if array is None else np.where(np.abs(array) < LARGEST, array, np.nan)


def _sigma(arrays: dict[str, ndarray], name: str, sizes: dict[str, int]) -> ndarray | None:
    array = _floats(arrays, name, ("N", "K"), sizes)
    if array is not None and (array <= 0).any():
        raise InputError(f"{name} must be positive; NaN where it is unknown")
    return array


def _names(array: ndarray, count: int) -> tuple[str, ...]:
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind != "U" or array.shape != (count,):
        raise InputError(
            f"keypoint_names has shape {array.shape} and type {array.dtype}, expected ({count},) "
            "strings, one for each column of keypoints_2d"
        )
    return tuple(str(name) for name in array)


def _intrinsics(array: ndarray | None) -> ndarray | None:
    if array is None:
        return None
    focal = array[:, [0, 1], [0, 1]]
    if not ((np.abs(array) < LARGEST_PIXELS).all() and (focal > 0).all()):
        raise InputError(
            "intrinsics must be finite with positive focal lengths in pixels: leave the array out "
            "where the camera is unknown"
        )
    if not (np.all(array[:, 2, :2] == 0) and np.all(array[:, 2, 2] > 0)):
        raise InputError("intrinsics must end in a row (0, 0, k) with k > 0: write camera matrices")
    array = array / array[:, 2:, 2:]
    if not (np.abs(array[:, 0, 1]) <= LARGEST_SKEW * array[:, 0, 0]).all():
        raise InputError("intrinsics has skew, which no mode fits: undistort the pictures first")
    return array


def _focal_sd(arrays: dict[str, Any]) -> float:
    value = np.asarray(arrays.get("focal_sd", 0.0))
    if value.shape != () or value.dtype.kind not in "fiu" or not 0 <= float(value) <= 1:
        raise InputError("focal_sd must be one number between 0 (trust the intrinsics) and 1")
    return float(value)


def _fps(arrays: dict[str, Any]) -> float | None:
    if "fps" not in arrays:
        return None
    value = np.asarray(arrays["fps"])
    if value.shape != () or value.dtype.kind not in "fiu" or not 0 < float(value) <= LARGEST_FPS:
        raise InputError(f"fps must be one number above 0 and at most {LARGEST_FPS:.0f}")
    return float(value)


def _depth_kind(arrays: dict[str, ndarray], has_depth: bool) -> DepthKind:
    if "depth_kind" not in arrays:
        if has_depth and "keypoint_depth" in arrays:
            raise InputError(f"depth_kind is missing: say which of {', '.join(DEPTH_KINDS)} it is")
        return "metric"
    array = np.asarray(arrays["depth_kind"]).reshape(-1)
    kinds = {v.decode() if isinstance(v, bytes) else str(v) for v in array}
    for kind in DEPTH_KINDS:
        if kinds == {kind}:
            if kind != "metric" and "points" in arrays:
                raise InputError(
                    f"points are metres, but depth_kind is {kind}: leave points out, or give "
                    "metric depth"
                )
            return kind
    raise InputError(
        f"depth_kind {', '.join(sorted(kinds)) or 'is empty'}: expected one of "
        f"{', '.join(DEPTH_KINDS)}"
    )
