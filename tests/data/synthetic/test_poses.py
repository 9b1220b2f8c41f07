import numpy as np
import pytest

from pchmr.body.joints import SMPL_24
from pchmr.data.synthetic.activities import ACTIVITIES, finish
from pchmr.data.synthetic.poses import (
    LIMITS,
    Draw,
    clamp,
    compose,
    is_sided,
    mirror,
    neutral,
    xzy,
    xzy_angles,
)

ROWS = 20


@pytest.fixture
def draw() -> Draw:
    rng = np.random.default_rng(0)
    return Draw(rng.standard_normal((ROWS, 80)), rng.standard_normal((ROWS, 80)))


@pytest.mark.parametrize("name", list(ACTIVITIES))
def test_templates_stay_within_reach_of_the_limits(name: str, draw: Draw) -> None:
    angles = finish(name, draw, np.linspace(0, 6, ROWS), 1.0)
    assert set(angles) == set(LIMITS)
    for key, value in angles.items():
        assert value.shape == ((ROWS, 2) if is_sided(key) else (ROWS,))
        low, high = LIMITS[key]
        assert (value > low - 60).all()
        assert (value < high + 60).all()


def test_clamp_moves_angles_into_limits() -> None:
    angles = {name: value + 500.0 for name, value in neutral(3).items()}
    clamp(angles)
    assert all((angles[name] == high).all() for name, (_, high) in LIMITS.items())


def test_mirroring_twice_changes_nothing(draw: Draw) -> None:
    angles = finish("reach", draw, np.zeros(ROWS), 1.0)
    before = {name: value.copy() for name, value in angles.items()}
    rows = np.arange(ROWS) % 2 == 0
    mirror(angles, rows)
    assert any((angles[name] != before[name]).any() for name in angles)
    mirror(angles, rows)
    assert all((angles[name] == before[name]).all() for name in angles)


def test_mirrored_angles_are_mirrored_rotations(draw: Draw) -> None:
    angles = finish("dance", draw, np.ones(ROWS), 1.0)
    plain = compose(angles)
    mirror(angles, np.ones(ROWS, dtype=bool))
    flip = np.diag([-1.0, 1.0, 1.0])
    wanted = flip @ plain[:, list(SMPL_24.mirror)] @ flip
    np.testing.assert_allclose(compose(angles), wanted, atol=1e-12)


def test_angles_are_read_back_from_rotations() -> None:
    x, z, y = np.random.default_rng(0).uniform(-80, 80, (3, 50))
    np.testing.assert_allclose(xzy_angles(xzy(x, z, y)), (x, z, y), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "joint", "child", "axis", "sign"),
    [
        ("hip_flexion", "left_hip", [0, -1, 0], 2, 1),
        ("hip_outward", "left_hip", [0, -1, 0], 0, 1),
        ("hip_outward", "right_hip", [0, -1, 0], 0, -1),
        ("knee_flexion", "left_knee", [0, -1, 0], 2, -1),
        ("ankle_up", "left_ankle", [0, 0, 1], 1, 1),
        ("arm_down", "right_shoulder", [-1, 0, 0], 1, -1),
        ("elbow_flexion", "left_elbow", [1, 0, 0], 2, 1),
        ("elbow_flexion", "right_elbow", [-1, 0, 0], 2, 1),
        ("finger_curl", "left_hand", [1, 0, 0], 1, -1),
        ("trunk_flexion", "spine1", [0, 1, 0], 2, 1),
        ("head_turn", "head", [0, 0, 1], 0, 1),
    ],
)
def test_angles_go_the_way_their_names_say(
    name: str, joint: str, child: list[int], axis: int, sign: int
) -> None:
    angles = {key: 0 * value for key, value in neutral(1).items()}
    angles[name] = angles[name] + 30
    moved = compose(angles)[0, SMPL_24.index(joint)] @ np.array(child)
    assert sign * moved[axis] > 0.1


def test_a_clip_is_smooth_and_half_of_it_stays() -> None:
    rng = np.random.default_rng(1)
    constant, drift = rng.standard_normal((2, 400, 1))
    values = Draw(np.tile(constant, (1, 1)), drift)
    uniform = values.uniform(10, 20)
    assert 10 <= uniform.min() < uniform.max() <= 20
    correlation = np.corrcoef(uniform, constant[:, 0])[0, 1]
    assert 0.6 < correlation < 0.8
