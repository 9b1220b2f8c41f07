"""What was seen of a person, frame by frame: the `--observations` file and its checks.

Arrays of the .npz: `keypoints_2d` (N, K, 3) pixels and confidence, `keypoint_names` (K,),
`image_size` (N, 2) width and height, and optionally `keypoint_sigma` (N, K) standard deviation in
pixels, `intrinsics` (N, 3, 3), `focal_sd` () the standard deviation of the log focal length (0
trusts the intrinsics), `keypoint_depth` (N, K) depth of the surface seen at each keypoint,
`keypoint_depth_sigma` (N, K) its standard deviation in metres on the person, `points` (N, P, 3)
metres of the visible surface in the camera frame, and `depth_kind` () one of "metric", "relative"
(metres about an unknown distance), "affine" (any unit), "affine_disparity" (its inverse). Metric
depth holds the person where it says, unless `depth_scale_sd` () tells how far all of it may be off
together, as a share (0.05 for depth networks).
`keypoints_3d` (N, K, 3) are the joints themselves in space, root-relative: camera axes (x right, y
down, z away), any origin, the size of any person; `keypoints_3d_sigma` (N, K) their standard
deviation in metres. They tell the pose alone, never shape, size or distance. `fps` () is the frame
rate of a video, or `time_seconds` (N,) its rising time stamps. NaN marks what is missing; rows of
NaN pad `points`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.observed import DEPTHS, IN_SPACE, Observations
from pchmr.annotate.plausibility import require_plausible
from pchmr.data.errors import InputError
from pchmr.door import FileError
from pchmr.door.arrays import read_arrays
from pchmr.perception.interfaces import DepthKind
from pchmr.perception.names import read_names

DEPTH_KINDS: tuple[DepthKind, ...] = ("metric", "relative", "affine", "affine_disparity")
ROOT_RELATIVE = "root_relative"  # what `keypoints_3d` is, told or not
REQUIRED = ("keypoints_2d", "keypoint_names", "image_size")
OPTIONAL = (
    "keypoint_sigma",
    "intrinsics",
    "focal_sd",
    *DEPTHS,
    *IN_SPACE,
    "depth_kind",
    "depth_scale_sd",
    "fps",
    "time_seconds",
)
FAR = 10.0  # picture sides beside the picture from which a keypoint counts as missing
LARGEST_PERSON = (0.25, 3.6)  # metres across joints in space
LARGEST_FPS = 1e4
LARGEST, LARGEST_PIXELS = 1e15, 1e7  # depth in any unit; entries of a camera matrix
LARGEST_SKEW = 1e-3  # of the focal length
COCO_VISIBILITY = {0.0: 0.0, 1.0: 0.6, 2.0: 1.0}  # not labeled, labeled but hidden, visible
LARGEST_CONFIDENCE = 10.0  # peaks of heatmaps may lie above 1


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
        found = check_observations(arrays)
        require_plausible(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return found


def _read(path: Path) -> dict[str, ndarray]:
    if not path.is_file():
        raise InputError(f"observations {path} do not exist: check the path")
    try:
        return read_arrays(path)
    except FileError as error:
        raise InputError(
            f"cannot read observations {path}: {error.reason}; write plain arrays with numpy.savez "
            "(no Python objects), long videos as several clips"
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
    keypoints[..., 2] = confidences(keypoints[..., 2])
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
        focal_sd=_share(arrays, "focal_sd", "trust the intrinsics"),
        keypoint_sigma=_sigma(arrays, "keypoint_sigma", sizes),
        keypoint_depth=depth,
        keypoint_depth_sigma=_sigma(arrays, "keypoint_depth_sigma", sizes),
        points=points,
        keypoints_3d=_in_space(arrays, sizes),
        keypoints_3d_sigma=_sigma(arrays, "keypoints_3d_sigma", sizes),
        depth_kind=_depth_kind(arrays, depth is not None or points is not None),
        depth_scale_sd=_share(arrays, "depth_scale_sd", "trust metric depth"),
        fps=_fps(arrays),
        time_seconds=_times(arrays, sizes),
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


def confidences(given: Float[ndarray, "frames keypoints"]) -> Float[ndarray, "frames keypoints"]:
    """Confidences; COCO's visibility 0, 1, 2 is told by its twos and becomes one.

    Raises:
        InputError: They are in percent.
    """
    values = given[np.isfinite(given)]
    if len(values) and values.max() == 2 and np.isin(values, list(COCO_VISIBILITY)).all():
        return np.select([given == v for v in COCO_VISIBILITY], list(COCO_VISIBILITY.values()), 0.0)
    if len(values) and values.max() > LARGEST_CONFIDENCE:
        raise InputError(
            f"keypoints_2d holds confidences up to {values.max():.0f}: divide them so that they "
            "lie in [0, 1]"
        )
    return given


def without_far(
    keypoints: Float[ndarray, "frames keypoints 3"], image_size: Float[ndarray, "frames 2"]
) -> Float[ndarray, "frames keypoints 3"]:
    """Keypoints, NaN for those that lie more than `FAR` picture sides beside the picture."""
    side = image_size.max(axis=1)[:, None, None]
    far = np.abs(keypoints[..., :2] - image_size[:, None] / 2) > (FAR + 0.5) * side
    return np.where(far.any(axis=-1, keepdims=True), np.nan, keypoints)


def _in_space(arrays: dict[str, ndarray], sizes: dict[str, int]) -> ndarray | None:
    """Joints in space, of a person who is as large as one.

    Raises:
        InputError: None is finite, or they are in other units.
    """
    found = _floats(arrays, "keypoints_3d", ("N", "K", 3), sizes)
    if found is None:
        return None
    found = np.where(np.isfinite(found).all(axis=-1, keepdims=True), found, np.nan)
    known = np.asarray(np.isfinite(found).all(axis=-1)).any(axis=1)
    if not known.any():
        raise InputError("keypoints_3d holds no finite joint: leave it out, or write metres")
    across = float(np.median((np.nanmax(found[known], 1) - np.nanmin(found[known], 1)).max(-1)))
    low, high = LARGEST_PERSON
    if not low <= across <= high:
        raise InputError(
            f"keypoints_3d spans {across:.3g} on a person: write metres in camera axes (x right, y "
            "down, z away)"
        )
    return found


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


def _share(arrays: dict[str, ndarray], name: str, zero: str) -> float:
    value = np.asarray(arrays.get(name, 0.0))
    if value.shape != () or value.dtype.kind not in "fiu" or not 0 <= float(value) <= 1:
        raise InputError(f"{name} must be one number between 0 ({zero}) and 1")
    return float(value)


def _fps(arrays: dict[str, ndarray]) -> float | None:
    if "fps" not in arrays:
        return None
    value = np.asarray(arrays["fps"])
    if value.shape != () or value.dtype.kind not in "fiu" or not 0 < float(value) <= LARGEST_FPS:
        raise InputError(f"fps must be one number above 0 and at most {LARGEST_FPS:.0f}")
    return float(value)


def _times(arrays: dict[str, ndarray], sizes: dict[str, int]) -> ndarray | None:
    times = _floats(arrays, "time_seconds", ("N",), sizes)
    if times is None:
        return None
    if "fps" in arrays:
        raise InputError("time_seconds and fps say the same: leave one of them out")
    if not (np.isfinite(times).all() and (np.diff(times) >= 1 / LARGEST_FPS).all()):
        raise InputError("time_seconds must be finite and rise from frame to frame")
    return times


def _depth_kind(arrays: dict[str, ndarray], has_depth: bool) -> DepthKind:
    if "depth_kind" not in arrays:
        if has_depth and "keypoint_depth" in arrays:
            raise InputError(f"depth_kind is missing: say which of {', '.join(DEPTH_KINDS)} it is")
        return "metric"
    array = np.asarray(arrays["depth_kind"]).reshape(-1)
    kinds = {v.decode() if isinstance(v, bytes) else str(v) for v in array}
    if kinds == {ROOT_RELATIVE} and "keypoints_3d" in arrays and not has_depth:
        return "relative"
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
