"""Human3.6M in the parsed layout that many public loaders share (Ionescu et al. 2014).

Annotations in the style of COCO with cameras, mocap joints in millimetres of a world frame, and
SMPL fits for a part of them. Subjects 9 and 11 are held out and have mocap joints only, as in the
published protocol 2, in the frontal camera. Every fifth frame is taken, to train and to test, as
GraphCMR, SPIN and METRO do.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from pchmr.body.joints import H36M_17, H36M_TO_EVALUATION
from pchmr.data.errors import InputError
from pchmr.data.sets.part import (
    DAMAGED_LABEL,
    MISSING,
    Part,
    Reader,
    ReadOptions,
    Source,
    below,
    numbers,
    photos,
    reshaped,
    shown_by,
    texts,
)
from pchmr.door import Json, read_json
from pchmr.door.limits import GIB

TRAIN, TEST = ("1", "5", "6", "7", "8"), ("9", "11")
EVERY = 5
ACTIONS, OTHER = range(2, 17), 0
MOST_FIT_MM, WIDEST_BETA = 50.0, 3.0
"""Fits that are trained on, as in METRO: joints about their mean, and every shape coefficient."""
CAMERAS = {1: "54138969", 2: "55011271", 3: "58860488", 4: "60457274"}
"""Serial numbers of the four cameras; the last is the frontal one of protocol 2."""
FRONTAL = 4
KINDS = ("data", "camera", "joint_3d", "smpl_param")
MM = 1000.0
Table = Mapping[str, Any]


def _file(path: Path, subject: str, kind: str) -> Path:
    return path / "annotations" / f"Human36M_subject{subject}_{kind}.json"


def sources(path: Path, options: ReadOptions) -> list[Source]:
    """A part for each action of each subject whose annotations are there."""
    load = lru_cache(maxsize=1)(partial(_subject, path, every=options.every or EVERY))
    found = [
        Source(f"S{subject} {action}", partial(_read, load, subject, action))
        for subject in (*TRAIN, *TEST)
        if _file(path, subject, "data").is_file()
        for action in (*ACTIONS, OTHER)
    ]
    if not found:
        raise InputError(
            f"{path} holds no annotations/Human36M_subject*_data.json: give the folder of the "
            "parsed Human3.6M"
        )
    return found


@dataclass(frozen=True)
class _Subject:
    """The annotations of a subject.

    Attributes:
        path: Of the set.
        name: Number of the subject.
        pictures: Sampled ones, each with its box; without one, with None.
        joints: By action, part of it and frame, millimetres.
        fits: SMPL parameters by the same.
        cameras: By number.
    """

    path: Path
    name: str
    pictures: list[Json]
    joints: Table
    fits: Table
    cameras: Table


def _subject(path: Path, subject: str, *, every: int) -> _Subject:
    data, cameras, joints = (_table(_file(path, subject, kind)) for kind in KINDS[:3])
    fits = _file(path, subject, KINDS[3])
    return _Subject(
        path=path,
        name=subject,
        pictures=_pictures(_file(path, subject, "data"), data, every, subject in TEST),
        joints=joints,
        fits=_table(fits) if subject in TRAIN and fits.is_file() else {},
        cameras=cameras,
    )


def _read(load: Callable[[str], _Subject], subject: str, action: int) -> Part:
    own = load(subject)
    rows, left_out, fault = [], Counter[str](), ""
    for picture in own.pictures:
        if (picture["action_idx"] if picture["action_idx"] in ACTIONS else OTHER) != action:
            continue
        at = tuple(str(picture[name]) for name in ("action_idx", "subaction_idx", "frame_idx"))
        joints = _deep(own.joints, at)
        if joints is None:
            left_out["no mocap joints"] += 1
        elif (shown := shown_by(below(own.path / "images", picture["file_name"]))) is None:
            left_out[MISSING] += 1
        else:
            try:
                fit = _fit(_file(own.path, subject, KINDS[3]), _deep(own.fits, at), left_out)
                rows.append(_row(own, {**picture, "path": shown}, joints, fit))
            except InputError as error:
                left_out[DAMAGED_LABEL] += 1
                fault = fault or str(error)
    return _part(subject, rows, dict(left_out), fault)


def _table(file: Path) -> Table:
    found = read_json(file, most_bytes=GIB)
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no object: get the file anew")
    return found


def _pictures(file: Path, data: Table, every: int, held_out: bool) -> list[Json]:
    """The sampled pictures with the box that is annotated in them, or None."""
    try:
        boxes = {entry["image_id"]: entry["bbox"] for entry in data["annotations"]}
        found = [
            {**image, "bbox": boxes.get(image["id"])}
            for image in data["images"]
            if image["frame_idx"] % every == 0 and (not held_out or image["cam_idx"] == FRONTAL)
        ]
        whole = ("action_idx", "subaction_idx", "cam_idx", "frame_idx")
        ok = all(type(image[name]) is int for image in found for name in whole)
        ok &= all(isinstance(image["file_name"], str) for image in found)
    except (KeyError, TypeError, AttributeError, ValueError):
        ok, found = False, []
    if not ok:
        raise InputError(f"{file} lacks images or annotations as we know them: get the file anew")
    return found


class _Fit(TypedDict):
    """SMPL parameters of a picture, and whether there are any."""

    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    known: bool


class _Person(_Fit):
    """The person of a picture, in the camera's frame."""

    picture: Json
    extrinsics: np.ndarray
    intrinsics: np.ndarray
    joints: np.ndarray
    square: list[float]
    size: list[float]


def _deep(table: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def _row(own: _Subject, picture: Json, joints: Any, fit: _Fit) -> _Person:
    path, subject = own.path, own.name
    file, number = _file(path, subject, "camera"), str(picture["cam_idx"])
    camera = own.cameras.get(number)
    if not isinstance(camera, dict) or picture["cam_idx"] not in CAMERAS:
        raise InputError(f"{file} lacks camera {number}: get the file anew")
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = reshaped(file, "R", camera.get("R"), 3, 3)
    extrinsics[:3, 3] = reshaped(file, "t", camera.get("t"), 3) / MM
    focal, middle = (reshaped(file, key, camera.get(key), 2) for key in ("f", "c"))
    world = numbers(_file(path, subject, "joint_3d"), "joints", joints, len(H36M_17), 3) / MM
    seen = world @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    left, top, width, height = numbers(_file(path, subject, "data"), "bbox", picture["bbox"], 4)
    return {
        "picture": picture,
        "extrinsics": extrinsics,
        "intrinsics": np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]]),
        "joints": seen[list(H36M_TO_EVALUATION)],
        "square": [left + width / 2, top + height / 2, 1.2 * max(width, height)],
        "size": [_side(picture.get("width")), _side(picture.get("height"))],
        **fit,
    }


def _side(value: Any) -> float:
    """Width or height of a picture; NaN where it is not told."""
    return float(value) if type(value) in (int, float) else np.nan


def _fit(file: Path, fit: Any, left_out: Counter[str]) -> _Fit:
    """SMPL parameters of a picture, zeros where there are none or they are not finite.

    Shapes far from the mean are of fits that went astray: as in METRO, the mean takes their place.
    """
    unknown = _Fit(pose=np.zeros(72), betas=np.zeros(10), transl=np.zeros(3), known=False)
    if not isinstance(fit, dict):
        return unknown
    found = [
        reshaped(file, key, fit.get(key), size, finite=False)
        for key, size in (("pose", 72), ("shape", 10), ("trans", 3))
    ]
    if not all(np.isfinite(values).all() for values in found):
        left_out["mesh not used: its fit holds values not finite"] += 1
        return unknown
    pose, betas, transl = found
    if np.abs(betas).max() > WIDEST_BETA:
        left_out["shape not used: wider than 3"] += 1
        betas = np.zeros(10)
    return {"pose": pose, "betas": betas, "transl": transl, "known": True}


def _part(subject: str, rows: list[_Person], left_out: dict[str, int], fault: str) -> Part:
    split = "test" if subject in TEST else "train"
    count, shown = len(rows), [row["picture"] for row in rows]

    def stack(name: str, *shape: int) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype=np.float64).reshape(count, *shape)

    clip = [Path(picture["file_name"]).parent.name for picture in shown]
    sure = np.ones((count, len(H36M_TO_EVALUATION), 1))
    pose = stack("pose", 72)
    joints = np.concatenate([stack("joints", len(H36M_TO_EVALUATION), 3), sure], axis=-1)
    return Part(
        texts=texts(
            count,
            split=split,
            subject=f"S{subject}",
            scene=[CAMERAS[picture["cam_idx"]] for picture in shown],
            sequence=clip,
            action=[str(picture.get("action_name", picture["action_idx"])) for picture in shown],
            clip=clip,
            protocol="h36m-p2" if split == "test" else "",
        ),
        frame=np.array([picture["frame_idx"] for picture in shown], dtype=np.int64),
        pictures=photos([picture["path"] for picture in shown]),
        global_orient=pose[:, :3],
        body_pose=pose[:, 3:].reshape(count, 23, 3),
        betas=stack("betas", 10),
        transl=stack("transl", 3),
        has_smpl=np.array([row["known"] for row in rows], dtype=bool),
        intrinsics=stack("intrinsics", 3, 3),
        extrinsics=stack("extrinsics", 4, 4),
        square=stack("square", 3),
        joints=joints,
        size=stack("size", 2),
        most_fit_mm=MOST_FIT_MM,
        left_out=left_out,
        fault=fault,
    )


H36M = Reader(
    about="Human3.6M, parsed: 7 people, 15 actions, 4 cameras, mocap joints",
    page="vision.imar.ro/human3.6m",
    licence="academic, non-commercial; do not pass on",
    tree="images/s_01_act_02_subact_01_ca_01/*.jpg, annotations/Human36M_subject{1,5,6,7,8,9,11}_"
    "{data,camera,joint_3d,smpl_param}.json",
    box="the annotated box x 1.2, square",
    finds=lambda path: bool(list((path / "annotations").glob("Human36M_subject*_data.json"))),
    sources=sources,
    knows_people=True,
    published={"subjects of train": 5, "subjects of test": 2},
    sampling="every 5th frame, to test of the frontal camera",
)
