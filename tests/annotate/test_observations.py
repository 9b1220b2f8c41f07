from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate.evidence import _not_far
from pchmr.annotate.observations import load_observations
from pchmr.body.joints import COCO_17, COCO_23, H36M_17
from pchmr.data.errors import InputError
from pchmr.perception.names import GOLIATH_70, canonical_name, read_names


def arrays(**changes: object) -> dict[str, np.ndarray]:
    table = np.random.default_rng(0).uniform(10, 90, (2, 17, 3))
    table[..., 2] = 0.9
    found = {
        "keypoints_2d": table,
        "keypoint_names": np.array(COCO_17.names),
        "image_size": np.array([[100, 120], [100, 120]]),
        **changes,
    }
    return {name: np.asarray(value) for name, value in found.items() if value is not None}


def saved(tmp_path: Path, **changes: object) -> Path:
    np.savez(tmp_path / "obs.npz", **arrays(**changes))
    return tmp_path / "obs.npz"


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    seen = load_observations(saved(tmp_path))
    assert len(seen) == 2 and seen.keypoint_names == COCO_17.names
    assert seen.num_seen.tolist() == [17, 17] and seen.points is None


def test_every_optional_array_is_read(tmp_path: Path) -> None:
    camera = np.array([[100.0, 0, 50], [0, 100, 60], [0, 0, 1]])
    points = np.full((2, 5, 3), np.nan)
    points[1, 3] = 0.1, 0.2, 3.0
    seen = load_observations(
        saved(
            tmp_path, intrinsics=np.stack([camera, camera]), keypoint_depth=np.ones((2, 17)),
            points=points, depth_kind="metric", focal_sd=0.1,
        )
    )  # fmt: skip
    assert seen.focal_sd == 0.1 and seen.depth_kind == "metric"
    assert seen.points is not None
    np.testing.assert_array_equal(seen.points, points)


def test_points_without_a_point_are_none(tmp_path: Path) -> None:
    depth = {"keypoint_depth": np.ones((2, 17)), "depth_kind": "metric"}
    assert (
        load_observations(saved(tmp_path, points=np.full((2, 5, 3), np.nan), **depth)).points
        is None
    )


def test_camera_matrices_of_any_scale_are_one_camera(tmp_path: Path) -> None:
    camera = np.array([[100.0, 0, 50], [0, 100, 60], [0, 0, 1]])
    seen = load_observations(saved(tmp_path, intrinsics=np.stack([camera, 2 * camera])))
    assert seen.intrinsics is not None
    np.testing.assert_array_equal(seen.intrinsics[0], seen.intrinsics[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints_2d": None}, "lacks keypoints_2d"),
        ({"keypoints_2d": np.zeros((2, 17))}, r"keypoints_2d has shape \(2, 17\)"),
        ({"keypoints_2d": np.zeros((0, 17, 3)), "image_size": np.zeros((0, 2))}, "no frame"),
        ({"keypoint_names": np.array(COCO_17.names[:5])}, "keypoint_names has shape"),
        ({"keypoint_names": np.array(["nose"] * 17)}, "nose twice"),
        ({"keypoint_names": np.array([f"point_{i}" for i in range(17)])}, "names that we know"),
        ({"image_size": np.zeros((2, 2))}, "image_size must hold"),
        ({"image_size": np.ones((3, 2))}, "image_size has shape"),
        ({"intrinsics": np.zeros((2, 3, 3))}, "positive focal"),
        ({"intrinsics": np.ones((2, 3, 3))}, r"row \(0, 0, k\)"),
        (
            {"intrinsics": np.eye(3) + np.array([[0, 0.1, 0]] * 2)[:, None] * [[1], [0], [0]]},
            "skew",
        ),
        ({"keypoint_depth": np.ones((2, 17))}, "depth_kind is missing"),
        ({"points": np.full((2, 4, 3), np.nan), "depth_kind": "metric"}, "no finite row"),
        ({"keypoint_depth": np.ones((2, 4)), "depth_kind": "metric"}, "keypoint_depth has shape"),
        ({"depth_kind": "inverse", "keypoint_depth": np.ones((2, 17))}, "expected one of metric"),
        ({"depth_kind": "affine", "points": np.ones((2, 4, 3))}, "leave points out"),
        ({"focal_sd": 3.0}, "focal_sd must be"),
        ({"camera": np.eye(3)}, "camera, which we do not read"),
        ({"keypoints_2d": np.array([["a"]])}, "write numbers"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_observations(saved(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_objects_and_garbage_are_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", **arrays(), allow=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("evil.npz", "text.npz", "absent.npz"):
        with pytest.raises(InputError):
            load_observations(tmp_path / name)


def test_names_of_other_tools_are_understood() -> None:
    same = {
        "RHip": "right_hip", "LBigToe": "left_big_toe", "r_ankle": "right_ankle",
        "Left Eye": "left_eye", "right_forefinger_third_joint": "right_forefinger1",
        "Head": "head_top",
    }  # fmt: skip
    assert {name: canonical_name(name) for name in same} == same


def test_every_known_set_is_read() -> None:
    assert len(set(GOLIATH_70)) == len(GOLIATH_70) == 70
    assert GOLIATH_70[41] == "right_wrist" and GOLIATH_70[62] == "left_wrist"
    assert read_names(COCO_23.names).points[0] == "coco:nose"
    assert not read_names(COCO_23.names).ignored
    assert set(read_names(H36M_17.names).points) == {f"h36m:{n}" for n in H36M_17.names}
    goliath = read_names(GOLIATH_70)
    assert len(goliath.points) == 23 + 8 + 1 and "left_olecranon" in goliath.ignored


def test_shared_names_follow_their_company() -> None:
    both = ("left_hip", "left_knee", "left_ankle", "left_shoulder")
    assert read_names((*both, "torso")).points[0] == "h36m:left_hip"
    assert read_names((*both, "left_eye", "torso")).points[0] == "coco:left_hip"
    assert read_names(both).points[0] == "coco:left_hip"


def test_a_depth_on_a_wall_does_not_count() -> None:
    depths = np.array([[3.0, 3.1, 2.9, 3.05, 6.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    kept = _not_far(depths, np.array([[True] * 5, [True] * 4 + [False]]))
    assert kept.tolist() == [[True, True, True, True, False], [True] * 5]
