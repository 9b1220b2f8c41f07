"""Keypoints in JSON of OpenPose, MMPose, MediaPipe and COCO, as arrays of the observations file.

A file holds one frame or several, a folder one frame a file by name. Of several people in a frame
the largest is taken; in a video whoever is nearest to the one before. Nothing is fitted here, and
what the arrays must be like is checked in `observations`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.data.errors import InputError
from pchmr.door import FileError, read_json
from pchmr.perception.blazepose.landmarks import NAMES as MEDIAPIPE
from pchmr.perception.names import MMPOSE

SIDES = ("R", "L")
_ARMS = tuple(f"{side}{joint}" for side in SIDES for joint in ("Shoulder", "Elbow", "Wrist"))
_LEGS = tuple(f"{side}{joint}" for side in SIDES for joint in ("Hip", "Knee", "Ankle"))
_HEAD = ("REye", "LEye", "REar", "LEar")
_FEET = tuple(f"{side}{part}" for side in "LR" for part in ("BigToe", "SmallToe", "Heel"))
OPENPOSE = {
    25: ("Nose", "Neck", *_ARMS, "MidHip", *_LEGS, *_HEAD, *_FEET),
    18: ("Nose", "Neck", *_ARMS, *_LEGS, *_HEAD),
}
"""OpenPose's body models BODY_25 and COCO, by their number of keypoints."""

LANDMARKS = ("landmark", "landmarks", "pose_landmarks", "poseLandmarks")
WORLD = ("world_landmarks", "worldLandmarks", "pose_world_landmarks", "poseWorldLandmarks")
KNOWN = "OpenPose, MMPose, MediaPipe or COCO keypoints"
Size = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Somebody in a frame.

    Attributes:
        names: Of the keypoints.
        keypoints: Pixels and confidence.
        space: Joints about an unknown origin, metres, where the tool gives them.
    """

    names: tuple[str, ...]
    keypoints: Float[ndarray, "keypoints 3"]
    space: Float[ndarray, "keypoints 3"] | None = None

    @property
    def box(self) -> tuple[Float[ndarray, "2"], float]:
        """Middle and longer side of what was seen; a side of -1 where that is nothing."""
        xy = self.keypoints[self.keypoints[:, 2] > 0, :2]
        if not len(xy):
            return np.zeros(2), -1.0
        low, high = xy.min(axis=0), xy.max(axis=0)
        return (low + high) / 2, float((high - low).max())


@dataclass(frozen=True, kw_only=True)
class View:
    """A frame: its people, and the size of its picture where that is told."""

    people: tuple[Seen, ...]
    size: Size | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """What was read: arrays of the observations file, and lines that a user should know."""

    arrays: dict[str, ndarray]
    notes: tuple[str, ...]


def is_json(path: Path) -> bool:
    """Whether a path is JSON of another tool, or a folder of it."""
    return path.suffix.lower() == ".json" or path.is_dir()


def files_of(path: Path) -> list[Path]:
    """The JSON files of a path, by name.

    Raises:
        InputError: There is none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.glob("*.json") if p.name[0] != ".")
    if not found:
        raise InputError(f"observations {path} hold no .json: give a file, or a folder of them")
    return found


def read_tables(path: Path, sizes: Sequence[Size] = (), *, is_video: bool = False) -> Table:
    """The keypoints of a JSON file or of a folder of them.

    Args:
        path: File or folder.
        sizes: Width and height of every frame's picture, or of all; empty where unknown.
        is_video: Whether the frames follow each other.

    Raises:
        InputError: One line that says what is wrong and what to write instead.
    """
    views: list[View] = []
    for file in files_of(path):
        try:
            views += _views(read_json(file), sizes, len(views))
        except FileError as error:
            raise InputError(f"cannot read observations {file}: {error.reason}") from None
        except InputError as error:
            raise InputError(f"observations {file}: {error}") from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError):
            raise InputError(
                f"observations {file} hold no {KNOWN} that we read: write one of these, or the "
                "arrays of docs/annotation.md with numpy.savez"
            ) from None
    return _table(path, views, sizes, is_video)


def _views(value: Any, sizes: Sequence[Size], first: int) -> list[View]:
    """The frames of a JSON value; `ValueError` or the like where it is of no known kind."""
    if isinstance(value, dict) and "instance_info" in value:
        return _views_of_mmpose(value["instance_info"], _named(value.get("meta_info")))
    if isinstance(value, dict) and "predictions" in value:
        return _views_of_mmpose(value["predictions"], _named(value.get("meta_info")))
    if isinstance(value, dict) and "annotations" in value:
        return _views_of_coco(value)
    if isinstance(value, list) and value and _is_coco_result(value[0]):
        return _views_of_coco({"annotations": value})
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if {"instances", "keypoints"} & set(value[0]):
            return _views_of_mmpose(value, None)
        if "x" not in value[0]:
            return [_view(one, sizes, first + row) for row, one in enumerate(value)]
    return [_view(value, sizes, first)]


def _view(value: Any, sizes: Sequence[Size], row: int) -> View:
    """One frame of OpenPose, or of MediaPipe."""
    size = _told_size(value) or _size_of(sizes, row)
    if isinstance(value, dict) and "people" in value:
        return View(people=tuple(map(_of_openpose, value["people"])), size=size)
    return View(people=tuple(_of_mediapipe(value, size)), size=size)


def _told_size(value: Any) -> Size | None:
    if not isinstance(value, dict):
        return None
    if "image_size" in value:
        width, height = value["image_size"]
        return float(width), float(height)
    for width, height in (("width", "height"), ("image_width", "image_height")):
        if width in value and height in value:
            return float(value[width]), float(value[height])
    return None


def _of_openpose(person: Mapping[str, Any]) -> Seen:
    rows = np.array(person["pose_keypoints_2d"], dtype=np.float64).reshape(-1, 3)
    return Seen(names=OPENPOSE[len(rows)], keypoints=rows)


def _of_mediapipe(value: Any, size: Size | None) -> list[Seen]:
    """People of MediaPipe, whose pixels are shares of the picture."""
    world = None
    if isinstance(value, dict):
        world = next((value[name] for name in WORLD if value.get(name)), None)
        value = value[next((name for name in LANDMARKS if name in value), LANDMARKS[0])]
    people = _lists(value)
    if people and size is None:
        raise InputError(
            "MediaPipe writes shares of the picture, whose size is not told: give the pictures "
            "with --images"
        )
    spaces = _lists(world) if world else [None] * len(people)
    found = []
    for rows, space in zip(people, spaces, strict=True):
        table = np.array([[r["x"], r["y"], r.get("visibility", 1.0)] for r in rows], dtype=float)
        table[:, :2] *= size
        xyz = None if space is None else np.array([[r["x"], r["y"], r["z"]] for r in space], float)
        found.append(Seen(names=_of_count({33: MEDIAPIPE}, len(table)), keypoints=table, space=xyz))
    return found


def _lists(value: Any) -> list[list[Mapping[str, float]]]:
    """Landmarks person by person, however deep they lie."""
    if isinstance(value, dict):
        value = value["landmark"]
    if not value:
        return []
    return (
        [value]
        if isinstance(value[0], dict) and "x" in value[0]
        else [rows for one in value for rows in _lists(one)]
    )


def _named(about: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Names of MMPose's keypoints where its file tells them."""
    names = (about or {}).get("keypoint_id2name")
    if names is None:
        return None
    table = names if isinstance(names, list) else [names[str(row)] for row in range(len(names))]
    return tuple(str(name) for name in table)


def _views_of_mmpose(frames: list[Any], names: tuple[str, ...] | None) -> list[View]:
    """Frames with instances, or the instances of one frame."""
    if frames and isinstance(frames[0], list):
        frames = [{"instances": one} for one in frames]
    elif frames and "instances" not in frames[0]:
        frames = [{"instances": frames}]
    return [
        View(
            people=tuple(_of_instance(one, names) for one in frame["instances"]),
            size=_told_size(frame),
        )
        for frame in frames
    ]


def _of_instance(person: Mapping[str, Any], names: tuple[str, ...] | None) -> Seen:
    xy = np.array(person["keypoints"], dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError(
            f"MMPose keypoints have shape {xy.shape}, expected (K, 2) pixels: write 2D keypoints"
        )
    sure = person.get("keypoint_scores", person.get("keypoints_visible", np.ones(len(xy))))
    names = names or _of_count(MMPOSE, len(xy))
    table = np.concatenate([xy, np.array(sure, dtype=float).reshape(-1, 1)], axis=-1)
    return Seen(names=names, keypoints=table[: len(names)])


def _of_count(known: Mapping[int, tuple[str, ...]], count: int) -> tuple[str, ...]:
    if count not in known:
        numbers = ", ".join(str(number) for number in known)
        raise InputError(f"{count} keypoints have no names that we know; known sets hold {numbers}")
    return known[count]


def _is_coco_result(value: Any) -> bool:
    return isinstance(value, dict) and {"image_id", "keypoints"} <= set(value)


def _views_of_coco(value: Mapping[str, Any]) -> list[View]:
    """One frame an image, in the order of the images or of their first person."""
    people: dict[Any, list[Seen]] = {}
    sizes: dict[Any, Size | None] = {}
    for image in value.get("images", ()):
        people[image["id"]], sizes[image["id"]] = [], _told_size(image)
    named = [one["keypoints"] for one in value.get("categories", ()) if "keypoints" in one]
    for person in value["annotations"]:
        if not person.get("keypoints"):
            continue
        rows = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)
        names = tuple(map(str, named[0])) if named else _of_count(MMPOSE, len(rows))
        seen = Seen(names=names, keypoints=rows[: len(names)])
        people.setdefault(person["image_id"], []).append(seen)
    return [View(people=tuple(found), size=sizes.get(key)) for key, found in people.items()]


def _table(path: Path, views: list[View], sizes: Sequence[Size], is_video: bool) -> Table:
    """The chosen person of every frame, as arrays."""
    names = next((view.people[0].names for view in views if view.people), None)
    if names is None:
        raise InputError(f"observations {path} hold nobody: give frames with a person")
    if len(sizes) not in (0, 1, len(views)):
        raise InputError(f"{len(views)} frames of {path} and {len(sizes)} pictures: give as many")
    table, space = (np.full((len(views), len(names), 3), np.nan) for _ in range(2))
    for row, person in enumerate(_chosen(views, is_video)):
        if person is None:
            continue
        if person.names != names:
            raise InputError(f"frames of {path} hold different keypoints: give those of one model")
        table[row] = person.keypoints
        space[row] = np.nan if person.space is None else person.space
    told = [view.size or _size_of(sizes, row) for row, view in enumerate(views)]
    arrays = {
        "keypoints_2d": table,
        "keypoint_names": np.array(names),
        "image_size": np.array([one or _guessed_size(table) for one in told]),
    }
    if np.isfinite(space).any():
        arrays["keypoints_3d"] = space
    return Table(arrays=arrays, notes=tuple(_notes(views, told)))


def _size_of(sizes: Sequence[Size], row: int) -> Size | None:
    """Size of a frame's picture, where pictures were given."""
    return sizes[min(row, len(sizes) - 1)] if sizes else None


def _notes(views: Sequence[View], told: Sequence[Size | None]) -> Iterator[str]:
    """What a user should know of the reading."""
    if several := sum(len(view.people) > 1 for view in views):
        yield f"{several} frames show several people, one of each is labeled"
    if None in told:
        yield (
            "the size of the pictures is not told and taken as if the person stood in their "
            "middle: give them with --images"
        )


def _chosen(views: Iterable[View], is_video: bool) -> list[Seen | None]:
    """One person a frame: the largest, or in a video the nearest to the one before."""
    found: list[Seen | None] = []
    last: ndarray | None = None
    for view in views:
        people = [one for one in view.people if one.box[1] >= 0]
        rank = [-one.box[1] for one in people]
        if is_video and last is not None:
            rank = [float(np.linalg.norm(one.box[0] - last)) for one in people]
        best = people[int(np.argmin(rank))] if people else None
        last = last if best is None else best.box[0]
        found.append(best)
    return found


def _guessed_size(table: Float[ndarray, "frames keypoints 3"]) -> Size:
    """Width and height of pictures that show what was seen in their middle."""
    xy = table[table[..., 2] > 0, :2]
    low, high = xy.min(axis=0), xy.max(axis=0)
    width, height = (math.ceil(max(side, 1.0)) for side in high + np.maximum(low, 0.0))
    return float(width), float(height)
