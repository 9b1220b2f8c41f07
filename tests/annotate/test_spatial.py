"""Joints in space: files, bones, the start, and what they do to a fit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.annotate.test_observations import saved
from tests.predict.watchers import posed

from pchmr.annotate.deposer import MODES, Annotator, Start, fit_objective
from pchmr.annotate.kinematics import State, points, pose
from pchmr.annotate.modes import best_mode
from pchmr.annotate.observations import load_observations
from pchmr.annotate.observed import Observations
from pchmr.annotate.spatial import BONES, arc, seen_bones
from pchmr.body.joints import COCO_23
from pchmr.data.errors import InputError
from pchmr.geometry import rotvec_to_rotmat

CAMERA = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
POSES = {
    "upright": (math.pi, 0.0, 0.0),
    "head down": (0.0, 0.4, 0.0),
    "lying": (2.2, 2.2, 0.0),
    "on the back": (1.6, 0.0, 0.0),
}


def seen_of(joints: np.ndarray, **changes: object) -> Observations:
    pixels = joints @ CAMERA.T
    table = np.concatenate([pixels[:, :2] / pixels[:, 2:], np.ones((len(joints), 1))], axis=-1)
    given = {"intrinsics": CAMERA[None], "keypoints_3d": joints[None] - joints.mean(axis=0)}
    return Observations(
        keypoints_2d=table[None],
        keypoint_names=COCO_23.names,
        image_size=np.array([[640, 480]]),
        **{**given, **changes},
    )


@pytest.mark.parametrize("name", POSES)
def test_a_start_points_where_the_joints_do(annotator: Annotator, name: str) -> None:
    truth = posed(annotator, POSES[name], (0.0, 0.0, 4.0))
    seen = seen_of(truth)
    (start,) = annotator.space_starts(seen)
    zero = torch.zeros(1, 2)
    state = State(start.rotmat, start.betas, torch.zeros(1, 3), zero, zero[:, 0], zero)
    rig = annotator.points.rig.take(annotator.points.indices(seen.reading.points))
    found = points(rig, pose(annotator.skeleton, state), state.betas)[0].numpy()
    rows = {joint: row for row, joint in enumerate(COCO_23.names)}
    for first, last in BONES[:4]:
        own, true = (at[rows[last]] - at[rows[first]] for at in (found, truth))
        cosine = own @ true / np.linalg.norm(own) / np.linalg.norm(true)
        assert cosine > 0.97, (first, last)


def test_lying_is_fitted_better_with_joints_in_space(annotator: Annotator) -> None:
    truth = posed(annotator, POSES["lying"], (0.0, 0.0, 4.0))
    seen = seen_of(truth)
    assert best_mode(seen) == "deposer-keypoint"
    errors = []
    for one in (seen, replace(seen, keypoints_3d=None)):
        fit = annotator.fit(one, MODES[best_mode(one)])
        found = annotator.label_joints(fit)[0, :17].numpy()
        apart = (found - found.mean(axis=0)) - (truth[:17] - truth[:17].mean(axis=0))
        errors.append(float(np.linalg.norm(apart, axis=-1).mean()))
    assert errors[0] < 0.03 and errors[0] < errors[1]


def test_a_network_beside_joints_in_space_mends_what_they_err(annotator: Annotator) -> None:
    """Within reach it pulls; what lies far off is not believed."""
    truth = posed(annotator, POSES["upright"], (0.0, 0.2, 4.0))
    seen = seen_of(truth)
    wrong = seen.keypoints_3d + np.random.default_rng(1).normal(0, 0.08, seen.keypoints_3d.shape)
    seen, mode = replace(seen, keypoints_3d=wrong), MODES["deposer-keypoint"]
    right = annotator.fit(seen_of(truth), mode).state
    start = Start(right.rotmat, right.betas)
    errors = []
    for starts in ([], [start], annotator.yaw_starts(1)[1:2]):
        joints = annotator.label_joints(annotator.fit(seen, mode, starts))[0, :23].numpy()
        apart = (joints - joints.mean(axis=0)) - (truth - truth.mean(axis=0))
        errors.append(float(np.linalg.norm(apart, axis=-1).mean()))
    alone, helped, misled = errors
    assert helped < 0.8 * alone
    assert misled < 1.3 * alone


def test_size_and_tilt_of_the_joints_change_nothing(annotator: Annotator) -> None:
    truth = posed(annotator, POSES["upright"], (0.0, 0.2, 4.0))
    seen = seen_of(truth)
    turn = rotvec_to_rotmat(torch.tensor([0.25, 0.0, 0.0])).double().numpy()
    other = replace(seen, keypoints_3d=3 * (seen.keypoints_3d @ turn.T) + 7)
    one, two = (annotator.fit(s, MODES["deposer-keypoint"]) for s in (seen, other))
    apart = (annotator.vertices(one) - annotator.vertices(two)).norm(dim=-1).mean()
    assert float(apart) < 0.03
    torch.testing.assert_close(one.state.betas, two.state.betas, atol=0.2, rtol=0)


def test_of_many_starts_those_that_cost_least_go_on(annotator: Annotator) -> None:
    """Of the joints in space, and four yaws of which none lies head down."""
    seen = seen_of(posed(annotator, POSES["head down"], (0.0, 0.0, 4.0)))
    mode = MODES["deposer-keypoint"].near
    objective = annotator.objective(seen, depth=True, dense=False)
    own, yaws = annotator.space_starts(seen), annotator.yaw_starts(1)
    alone = fit_objective(objective, mode, own)
    for many in ([*yaws, *own], [*own, *yaws]):
        kept = fit_objective(objective, mode, many, 1)
        torch.testing.assert_close(kept.state.rotmat, alone.state.rotmat)
    spent = sum(stage.iterations for stage in (*mode.scout, *mode.refine))
    assert spent < sum(s.iterations for s in MODES["deposer-keypoint"].refine)


def test_missing_joints_and_nobody_have_no_bones(annotator: Annotator) -> None:
    seen = seen_of(posed(annotator, POSES["upright"], (0.0, 0.0, 4.0)))
    assert seen.keypoints_3d is not None
    gap = seen.keypoints_3d.copy()
    gap[0, COCO_23.index("left_elbow")] = np.nan
    bones = seen_bones(replace(seen, keypoints_3d=gap))
    assert bones is not None and (bones.bone_weight == 0).sum() == 2
    assert np.isfinite(bones.bones).all()
    assert bool(
        annotator.fit(replace(seen, keypoints_3d=gap), MODES["deposer-keypoint"]).energy > 0
    )
    unseen = seen.keypoints_2d.copy()
    unseen[..., 2] = 0
    nothing = seen_bones(replace(seen, keypoints_2d=unseen))
    assert nothing is not None and not nothing.bone_weight.any()
    assert seen_bones(replace(seen, keypoints_3d=None)) is None


def test_the_shortest_arc_also_turns_back() -> None:
    a = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    b = torch.tensor([[0, 1.0, 0], [0, -1.0, 0], [torch.nan, 0, 0], [0, 0, 3.0]])
    turned = (arc(a, b) @ torch.nn.functional.normalize(a, dim=-1)[..., None])[..., 0]
    wanted = torch.tensor([[0, 1.0, 0], [0, -1.0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    torch.testing.assert_close(turned, wanted, atol=1e-6, rtol=0)


def test_files_bring_joints_in_space(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).uniform(-0.8, 0.8, (2, 17, 3))
    joints[0, 3, 1] = np.nan
    sigma = np.full((2, 17), 0.1)
    seen = load_observations(
        saved(tmp_path, keypoints_3d=joints, keypoints_3d_sigma=sigma, depth_kind="root_relative")
    )
    assert seen.keypoints_3d is not None and np.isnan(seen.keypoints_3d[0, 3]).all()
    first = seen.take(slice(0, 1)).keypoints_3d
    assert best_mode(seen) == "deposer-keypoint" and first is not None and len(first) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints_3d": np.ones((2, 17))}, "keypoints_3d has shape"),
        ({"keypoints_3d": np.full((2, 17, 3), np.nan)}, "holds no finite joint"),
        ({"keypoints_3d": 900 * np.eye(17, 3)[None].repeat(2, 0)}, "write metres"),
        ({"keypoints_3d_sigma": -np.ones((2, 17))}, "must be positive"),
        ({"keypoint_depth": np.ones((2, 17)), "depth_kind": "root_relative"}, "expected one of"),
    ],
)
def test_joints_of_another_kind_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_observations(saved(tmp_path, **changes))
