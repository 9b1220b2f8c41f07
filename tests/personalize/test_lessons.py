"""What an epoch holds: labels as often as they are sure, rendered people in proportion."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from pchmr.config import FittingOptions, SettingError
from pchmr.data.sample import COLUMNS, Sample
from pchmr.personalize.fitting import held_back
from pchmr.personalize.lessons import Helpers, Lessons, drawn_rows


@dataclass
class Numbered:
    """People whose shape is the number of their set."""

    number: float
    count: int
    image_size: int = 8
    is_private: bool = False
    content_hash: str = ""
    columns: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {name: np.full(self.count, self.number) for name in COLUMNS}

    def __len__(self) -> int:
        return self.count

    def batch(self, indices) -> Sample:
        n = len(indices)
        known = torch.ones(n, dtype=torch.bool)
        return Sample(
            images=torch.zeros(n, 3, 8, 8), keypoints_2d=torch.zeros(n, 14, 3),
            joints=torch.zeros(n, 14, 4), global_orient=torch.zeros(n, 3),
            body_pose=torch.zeros(n, 23, 3), betas=torch.full((n, 10), self.number),
            transl=torch.zeros(n, 3), intrinsics=torch.zeros(n, 3, 3), has_smpl=known,
            has_joints=known, has_keypoints_2d=known, index=torch.from_numpy(np.asarray(indices)),
        )  # fmt: skip


def test_shares_of_an_epoch() -> None:
    helpers = [Helpers(Numbered(1.0, 500), 0.25), Helpers(Numbered(2.0, 5), 0.35)]
    lessons = Lessons(people=Numbered(0.0, 40), weights=np.ones(40), helpers=helpers, seed=0)
    epoch = lessons.of_epoch(0)
    kinds = epoch.batch(np.arange(len(epoch))).betas[:, 0]
    assert [int((kinds == kind).sum()) for kind in (0, 1, 2)] == [40, 25, 35]
    other = lessons.of_epoch(1)
    again = lessons.of_epoch(0)
    first, second, same = (p.batch(np.arange(100)).index for p in (epoch, other, again))
    assert not torch.equal(first, second) and torch.equal(first, same)


def test_sure_labels_are_drawn_more_often() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([drawn_rows(np.array([3.0, 1.0, 0.0, 0.0]), rng) for _ in range(200)])
    share = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(share, [0.75, 0.25, 0, 0], atol=0.03)


def test_shares_leave_room_for_labels() -> None:
    with pytest.raises(SettingError, match="leave room"):
        replace(FittingOptions(), rehearsal_share=0.5, setting_share=0.5)


@pytest.mark.parametrize(("limit", "share"), [(9.0, 1.0), (5.0, 0.7), (0.5, 0.1), (-1.0, 0.0)])
def test_what_forgot_too_much_goes_back(limit: float, share: float) -> None:
    start, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(start.weight, 0.0)
    torch.nn.init.constant_(model.weight, 3.0)

    def error(tried: torch.nn.Module) -> float:
        return float(tried.get_parameter("weight").detach().square())

    assert held_back(start, model, error, limit) == share
    assert float(model.weight.detach()) == pytest.approx(3 * share)
