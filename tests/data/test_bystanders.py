"""Others beside the person of a crop, and the picture's edge: labels and the person stay."""

from dataclasses import replace

import pytest
import torch

from pchmr.config import FederateConfig, OptimOptions, SettingError
from pchmr.data import bystanders
from pchmr.data.augment import training_batch
from pchmr.data.bystanders import cut_outs, surrounded
from pchmr.data.sample import PeopleDataset

NUM_PEOPLE = 8


@pytest.fixture(scope="module")
def people(toy_body_people: PeopleDataset) -> PeopleDataset:
    return toy_body_people


@pytest.fixture(scope="module")
def others(people: PeopleDataset) -> torch.Tensor:
    return cut_outs(people.image_size, count=12)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cut_outs_are_people_without_surroundings(others: torch.Tensor, people: PeopleDataset):
    assert others.dtype == torch.uint8 and others.shape[1:] == (4, *[people.image_size] * 2)
    covered = (others[:, 3] > 127).float().mean(dim=(1, 2))
    assert len(others) >= 4 and covered.min() > 0.02 and covered.max() < 0.6


def test_only_pictures_change(others: torch.Tensor, people: PeopleDataset):
    sample = people.batch(range(NUM_PEOPLE))
    before = sample.images.clone()
    made = surrounded(sample, others, 1.0, seeded())
    assert torch.equal(sample.images, before)
    assert all(
        torch.equal(getattr(made, name), getattr(sample, name))
        for name in ("keypoints_2d", "joints", "body_pose", "betas", "intrinsics")
    )
    assert not torch.equal(made.images, before)
    assert made.images.min() >= 0 and made.images.max() <= 1


def test_a_share_is_changed_and_the_generator_alone_decides(
    others: torch.Tensor, people: PeopleDataset
):
    sample = people.batch(range(NUM_PEOPLE))
    assert torch.equal(surrounded(sample, others, 0.0, seeded()).images, sample.images)
    some, again = (surrounded(sample, others, 0.5, seeded(3)).images for _ in range(2))
    assert torch.equal(some, again)
    changed = (some != sample.images).any(dim=(1, 2, 3))
    assert 0 < changed.sum() < NUM_PEOPLE


def test_who_is_beside_does_not_stand_in_the_middle(
    others: torch.Tensor, people: PeopleDataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bystanders, "EDGE", 0.0)
    sample, changes = people.batch(range(NUM_PEOPLE)), []
    for seed in range(20):
        made = surrounded(sample, others, 1.0, seeded(seed)).images
        changes.append((made != sample.images).any(dim=1).float())
    share = torch.cat(changes).mean(dim=(0, 1))
    middle, third = len(share) // 2, len(share) // 4
    assert share[:third].mean() + share[-third:].mean() > 3 * share[middle - 3 : middle + 3].mean()


def test_the_edge_of_the_picture_leaves_every_joint_in(
    others: torch.Tensor, people: PeopleDataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bystanders, "EDGE", 1.0)
    monkeypatch.setattr(bystanders, "ASIDE", (5.0, 5.0))  # out of every crop
    sample = people.batch(range(NUM_PEOPLE))
    sample = replace(sample, images=torch.ones_like(sample.images))
    made = surrounded(sample, others, 1.0, seeded()).images[:, 0]
    assert (made == 0).any(dim=(1, 2)).sum() >= NUM_PEOPLE // 2
    side = made.shape[-1]
    places = ((sample.keypoints_2d[..., :2] + 1) / 2 * side).long()
    for picture, joints, seen in zip(made, places, sample.keypoints_2d[..., 2], strict=True):
        x, y = joints[seen > 0].clamp(0, side - 1).T
        assert (picture[y, x] == 1).all()


def test_pictures_wider_than_their_crops_are_changed_alike(
    others: torch.Tensor, people: PeopleDataset
):
    sample = people.batch(range(NUM_PEOPLE))
    side = people.image_size
    wide = torch.nn.functional.pad(sample.images, [side // 2] * 4)
    made = surrounded(replace(sample, images=wide), others, 1.0, seeded()).images
    inner = made[..., side // 2 : -side // 2, side // 2 : -side // 2]
    assert (inner - surrounded(sample, others, 1.0, seeded()).images).abs().mean() < 1e-4


def test_training_takes_the_option(
    others: torch.Tensor, people: PeopleDataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pchmr.data.augment.cut_outs", lambda side: others)
    plain, crowded = (
        training_batch(people, range(NUM_PEOPLE), seeded(), OptimOptions(bystanders=share))
        for share in (0.0, 1.0)
    )
    assert not torch.equal(plain.images, crowded.images)
    with pytest.raises(SettingError, match="bystanders"):
        OptimOptions(bystanders=1.5)
    with pytest.raises(SettingError, match="no-augment"):
        OptimOptions(bystanders=0.5, augment=False)
    with pytest.raises(SettingError, match="pchmr train"):
        FederateConfig(optim_options=OptimOptions(bystanders=0.5))
