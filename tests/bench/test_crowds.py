import numpy as np

from pchmr.bench.crowds import Tally, count
from pchmr.body.joints import EVALUATION_14
from pchmr.data.synthetic.crowds import Crowd
from pchmr.perception.interfaces import Box
from pchmr.perception.people import LIMBS, SeenPerson
from pchmr.perception.turned import TurnedCrop


def joints(x: float) -> np.ndarray:
    rows = np.ones((14, 3))
    rows[:, 0], rows[:, 1] = x + np.linspace(0, 60, 14), np.linspace(10, 150, 14)
    return rows


def find(x: float) -> SeenPerson:
    keypoints = joints(x)[list(EVALUATION_14.indices(LIMBS))]
    return SeenPerson(
        box=Box(x=x, y=10.0, width=60.0, height=140.0), keypoints=keypoints,
        world=np.zeros((len(LIMBS), 3)), presence=1.0, score=1.0,
        crop=TurnedCrop(x, 80.0, 140.0), cells=np.ones((4, 4)),
    )  # fmt: skip


def test_each_person_counts_once_and_hidden_ones_not_at_all() -> None:
    crowd = Crowd(
        image=np.zeros((160, 500, 3), np.uint8),
        keypoints=np.stack([joints(0.0), joints(150.0), joints(300.0)]),
        visible=np.array([0.1, 0.8, 1.0]),
    )
    assert count([], LIMBS, crowd) == Tally(2, 0, 0)
    assert count([find(2.0), find(298.0)], LIMBS, crowd) == Tally(2, 1, 0)
    assert count([find(299.0), find(301.0), find(430.0)], LIMBS, crowd) == Tally(2, 1, 2)
