"""Legs bent so that feet stand: the held foot does not move, and nothing but the legs does."""

import numpy as np

from pchmr.bench.standing import SIDES, Gait, flat_spans, standing
from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24, SMPL_PARENTS

FRAMES = 20
LEFT = [SMPL_24.index(f"left_{part}") for part in ("hip", "knee", "ankle")]


def sliding(body: BodyModel) -> Gait:
    """A body with bent legs that turns and glides over the ground."""
    rest = body.rest_joints(body.v_template.new_zeros(1, 10))[0].double().cpu().numpy()
    rotmat = np.tile(np.eye(3), (FRAMES, len(rest), 1, 1))
    for side in SIDES:
        for part, angle in (("hip", -0.5), ("knee", 0.9), ("ankle", -0.4)):
            cos, sin = np.cos(angle), np.sin(angle)
            bent = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
            rotmat[:, SMPL_24.index(f"{side}_{part}")] = bent
    turn = np.linspace(0, 0.2, FRAMES)
    turns = np.tile(np.eye(3), (FRAMES, 1, 1))
    turns[:, 0, 0] = turns[:, 2, 2] = np.cos(turn)
    turns[:, 0, 2], turns[:, 2, 0] = np.sin(turn), -np.sin(turn)
    return Gait(
        rotmat=rotmat,
        rest=np.tile(rest, (FRAMES, 1, 1)),
        parents=SMPL_PARENTS,
        turns=turns,
        shifts=np.linspace([0, 0, 0], [0.02, 0, 0.1], FRAMES),
        times=np.arange(FRAMES) / 25,
    )


def test_a_held_foot_neither_moves_nor_turns(body: BodyModel) -> None:
    gait = sliding(body)
    contact = np.zeros((FRAMES, 2), dtype=bool)
    contact[5:12, 0] = True
    rotmat, held = standing(gait, contact)
    assert (held == contact).all()
    before = gait.posed()
    world, places = Gait(**{**vars(gait), "rotmat": rotmat}).posed()
    ankle = LEFT[-1]
    assert np.ptp(places[5:12, ankle], axis=0).max() < 1e-6
    assert np.ptp(world[5:12, ankle], axis=0).max() < 1e-6
    assert np.ptp(before[1][5:12, ankle], axis=0).max() > 0.02
    still = [row for row in range(len(SMPL_24)) if SMPL_24.names[row].split("_")[0] != "left"]
    np.testing.assert_allclose(places[:, still], before[1][:, still], atol=1e-9)
    bones = np.linalg.norm(places[:, LEFT[1:]] - places[:, LEFT[:-1]], axis=-1)
    assert np.ptp(bones, axis=0).max() < 1e-9


def test_a_foot_whose_heel_rises_stands_no_more() -> None:
    contact = np.ones(10, dtype=bool)
    height = np.array([0.1, 0.1, 0.1, 0.1, 0.11, 0.15, 0.2, 0.2, 0.1, 0.1])
    assert flat_spans(contact, height) == [(0, 5), (8, 10)]
