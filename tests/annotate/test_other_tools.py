"""Keypoints of other tools: their names, their JSON, their pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pchmr.annotate.observed_files import read_observed
from pchmr.annotate.other_tools import OPENPOSE, read_tables
from pchmr.body.joints import COCO_17
from pchmr.cli import main
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.perception.blazepose.landmarks import NAMES as MEDIAPIPE
from pchmr.perception.names import read_names

SIZE = (640.0, 480.0)
MPI_INF_3DHP = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top",
    *(f"left_{n}" for n in ("clavicle", "shoulder", "elbow", "wrist", "hand")),
    *(f"right_{n}" for n in ("clavicle", "shoulder", "elbow", "wrist", "hand")),
    *(f"left_{n}" for n in ("hip", "knee", "ankle", "foot", "toe")),
    *(f"right_{n}" for n in ("hip", "knee", "ankle", "foot", "toe")),
)  # fmt: skip


def table(count: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xy = np.array([320.0, 240.0]) + scale * rng.uniform(-150, 150, (count, 2))
    return np.concatenate([xy, rng.uniform(0.5, 1.0, (count, 1))], axis=-1)


def openpose(rows: np.ndarray, *others: np.ndarray) -> dict[str, Any]:
    people = [{"pose_keypoints_2d": one.ravel().tolist()} for one in (rows, *others)]
    return {"version": 1.3, "people": people}


def instance(rows: np.ndarray) -> dict[str, Any]:
    return {"keypoints": rows[:, :2].tolist(), "keypoint_scores": rows[:, 2].tolist()}


def landmarks(rows: np.ndarray) -> list[dict[str, float]]:
    return [{"x": x / SIZE[0], "y": y / SIZE[1], "z": 0.1, "visibility": v} for x, y, v in rows]


def world(count: int) -> list[dict[str, float]]:
    xyz = np.random.default_rng(1).uniform(-0.8, 0.8, (count, 3))
    return [dict(zip("xyz", row, strict=True)) for row in xyz.tolist()]


def coco(rows: np.ndarray) -> dict[str, Any]:
    flat = rows.copy()
    flat[:, 2] = 2
    return {
        "images": [{"id": 7, "width": 640, "height": 480, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "keypoints": flat.ravel().tolist()}],
        "categories": [{"id": 1, "keypoints": list(COCO_17.names)}],
    }


FORMS: dict[str, tuple[int, Callable[[np.ndarray], Any]]] = {
    "OpenPose BODY_25": (25, openpose),
    "OpenPose COCO": (18, openpose),
    "MMPose, one picture": (17, lambda rows: [instance(rows)]),
    "MMPose, whole body": (133, lambda rows: [instance(rows)]),
    "MMPose, frames": (17, lambda rows: [{"frame_id": 0, "instances": [instance(rows)]}]),
    "MMPose, saved predictions": (
        17,
        lambda rows: {
            "meta_info": {"keypoint_id2name": {str(k): n for k, n in enumerate(COCO_17.names)}},
            "instance_info": [instance(rows)],
        },
    ),
    "MMPose, inferencer": (26, lambda rows: {"predictions": [[instance(rows)]]}),
    "MediaPipe, legacy": (33, lambda rows: {"landmark": landmarks(rows)}),
    "MediaPipe, tasks": (
        33,
        lambda rows: {"landmarks": [landmarks(rows)], "worldLandmarks": [world(33)]},
    ),
    "MediaPipe, frames": (33, lambda rows: [{"pose_landmarks": landmarks(rows)}]),
    "MediaPipe, bare": (33, landmarks),
    "COCO": (17, coco),
    "COCO results": (
        17,
        lambda rows: [{"image_id": 1, "score": 0.9, "keypoints": rows.ravel().tolist()}],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_json_of_other_tools_is_read(tmp_path: Path, form: str) -> None:
    count, make = FORMS[form]
    rows = table(count)
    (tmp_path / "found.json").write_text(json.dumps(make(rows)))
    found = read_tables(tmp_path / "found.json", [SIZE]).arrays
    own = found["keypoints_2d"][0]
    np.testing.assert_allclose(own[:, :2], rows[: len(own), :2], atol=1e-6)
    assert found["image_size"].tolist() == [[640, 480]]
    assert len(read_names(tuple(found["keypoint_names"])).points) >= 14
    assert ("keypoints_3d" in found) == (form == "MediaPipe, tasks")


def test_a_folder_is_a_frame_a_file_and_the_largest_is_labeled(tmp_path: Path) -> None:
    first, second, small = table(25, 1), table(25, 2), table(25, 3, scale=0.3)
    (tmp_path / "a_000_keypoints.json").write_text(json.dumps(openpose(small, first)))
    (tmp_path / "a_001_keypoints.json").write_text(json.dumps({"people": []}))
    (tmp_path / "a_002_keypoints.json").write_text(json.dumps(openpose(second)))
    found = read_tables(tmp_path)
    np.testing.assert_allclose(found.arrays["keypoints_2d"][[0, 2]], np.stack([first, second]))
    assert np.isnan(found.arrays["keypoints_2d"][1]).all()
    assert any("several people" in note for note in found.notes)
    assert any("size of the pictures" in note for note in found.notes)


def test_a_video_follows_the_nearest(tmp_path: Path) -> None:
    near, far = table(25, 1), table(25, 2, scale=1.1)
    far[:, 0] += 400
    frames = [openpose(near), openpose(far, near)]
    (tmp_path / "clip.json").write_text(json.dumps(frames))
    for is_video, expected in ((True, near), (False, far)):
        found = read_tables(tmp_path / "clip.json", is_video=is_video)
        np.testing.assert_allclose(found.arrays["keypoints_2d"][1], expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"landmark": landmarks(table(33))}, "with --images"),
        ({"people": []}, "hold nobody"),
        ([instance(table(19))], "19 keypoints have no names"),
        ([{"keypoints": [[1, 2, 3]] * 17, "keypoint_scores": [1] * 17}], "write 2D keypoints"),
        ({"people": [{"pose_keypoints_2d": [1, 2]}]}, "hold no OpenPose"),
        ({"people": [{"pose_keypoints_2d": ["a"] * 75}]}, "hold no OpenPose"),
        ({"name": "x"}, "hold no OpenPose"),
        ([], "hold no"),
        (7, "hold no OpenPose"),
    ],
)
def test_other_json_is_refused_in_one_line(tmp_path: Path, value: Any, message: str) -> None:
    (tmp_path / "found.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message) as error:
        read_tables(tmp_path / "found.json")
    assert "\n" not in str(error.value)


def test_names_of_whole_lists() -> None:
    body_25 = read_names(OPENPOSE[25])
    assert body_25.points[8] == "h36m:pelvis" and not body_25.ignored
    assert len(read_names(MEDIAPIPE).points) >= 23
    mpi = read_names(MPI_INF_3DHP)
    assert {"h36m:pelvis", "h36m:neck", "h36m:head_top"} <= set(mpi.points)
    assert {f"h36m:{side}_ankle" for side in ("left", "right")} <= set(mpi.points)
    assert read_names(("root (pelvis)", "RHip", "LHip", "Neck")).points[0] == "h36m:pelvis"


def pictures(folder: Path, count: int, size: tuple[float, float] = SIZE) -> Path:
    folder.mkdir()
    for row in range(count):
        Image.new("RGB", (round(size[0]), round(size[1])), (200, 180, 160)).save(
            folder / f"{row:03}.png"
        )
    return folder


def test_pictures_must_belong_to_the_frames(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(json.dumps([openpose(table(25, k)) for k in (1, 2)]))
    seen = read_observed(tmp_path / "found.json", pictures(tmp_path / "two", 2), is_clip=False)
    assert sorted(seen.pictures) == [0, 1] and not seen.notes
    assert seen.observations.image_size.tolist() == [list(SIZE)] * 2
    shown = seen.pictures[0]
    assert (shown[0, 0] == 128).all() and (shown[240, 320] == (200, 180, 160)).all()
    with pytest.raises(InputError, match="3 pictures"):
        read_observed(tmp_path / "found.json", pictures(tmp_path / "three", 3), is_clip=False)
    np.savez(
        tmp_path / "obs.npz", keypoints_2d=table(17)[None], keypoint_names=np.array(COCO_17.names),
        image_size=np.array([SIZE]),
    )  # fmt: skip
    with pytest.raises(InputError, match="in which the keypoints were found"):
        small = pictures(tmp_path / "small", 1, (320.0, 240.0))
        read_observed(tmp_path / "obs.npz", small, is_clip=False)


def test_labels_are_drawn_over_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(json.dumps(openpose(table(25))))
    command = ["annotate", "--observations", str(tmp_path / "found.json"), "--output"]
    shown = ["--images", str(pictures(tmp_path / "shown", 1))]
    assert main([*command, str(tmp_path / "plain")]) == 0
    assert main([*command, str(tmp_path / "drawn"), *shown]) == 0
    assert not list((tmp_path / "plain").glob("*.png"))
    with Image.open(tmp_path / "drawn" / "labels.png") as sheet:
        assert sheet.width > sheet.height
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 10


def test_pictures_alone_are_the_positional() -> None:
    with pytest.raises(SettingError, match="IMAGES"):
        AnnotateConfig(pictures=Path("a.png"), images=Path("a.png"))
