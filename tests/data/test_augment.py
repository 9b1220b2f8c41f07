from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from pchmr.body.joints import EVALUATION_14
from pchmr.data import augment as room
from pchmr.data.augment import PUBLISHED, augment, flip, turn
from pchmr.data.sample import Sample
from pchmr.geometry import project_pinhole


def all_rows(people) -> Sample:
    return people.batch(range(len(people)))


def assert_equal(left: Sample, right: Sample) -> None:
    for f in fields(Sample):
        a, b = getattr(left, f.name), getattr(right, f.name)
        if f.name == "gender" and a is None and b is None:
            continue
        assert torch.allclose(a.float(), b.float(), atol=1e-5), f.name


def joints_of(sample: Sample, body) -> torch.Tensor:
    vertices = body(sample.global_orient, sample.body_pose, sample.betas, sample.transl).vertices
    return body.regress(vertices, EVALUATION_14)


def centred(joints: torch.Tensor) -> torch.Tensor:
    return joints - joints[:, list(EVALUATION_14.root)].mean(dim=1, keepdim=True)


def test_flip_twice_is_the_identity(toy_people) -> None:
    sample = all_rows(toy_people)
    every = torch.ones(len(sample), dtype=torch.bool)
    assert_equal(flip(flip(sample, every), every), sample)


def test_flip_leaves_unmarked_rows_alone(toy_people) -> None:
    sample = all_rows(toy_people)
    marked = torch.arange(len(sample)) % 2 == 0
    flipped = flip(sample, marked)
    assert torch.equal(flipped.images[~marked], sample.images[~marked])
    assert torch.equal(flipped.joints[~marked], sample.joints[~marked])
    assert not torch.equal(flipped.joints[marked], sample.joints[marked])


def test_flipped_body_gives_the_flipped_joints(body, toy_body_people) -> None:
    """Exact on a mirror-symmetric body; the embedded body is symmetric to millimetres."""
    sample = all_rows(toy_body_people)
    flipped = flip(sample, torch.ones(len(sample), dtype=torch.bool))
    mirrored = joints_of(sample, body)[:, list(EVALUATION_14.mirror)] * torch.tensor([-1.0, 1, 1])
    difference = centred(joints_of(flipped, body)) - centred(mirrored)
    assert difference.norm(dim=-1).mean() < 0.01
    pixels = project_pinhole(mirrored, flipped.intrinsics)
    expected = (flipped.keypoints_2d[..., :2] + 1) * toy_body_people.image_size / 2
    assert torch.allclose(pixels, expected, atol=1e-3)


@pytest.mark.parametrize("degrees", [0.0, 25.0, -90.0])
def test_turned_labels_agree_with_the_turned_body(tiny_body, toy_people, degrees: float) -> None:
    sample = all_rows(toy_people)
    angle = torch.full((len(sample),), degrees).deg2rad()
    turned = turn(sample, angle, torch.ones_like(angle))
    assert torch.allclose(centred(joints_of(turned, tiny_body)), turned.joints[..., :3], atol=1e-5)
    pixels = project_pinhole(joints_of(turned, tiny_body), turned.intrinsics)
    expected = (turned.keypoints_2d[..., :2] + 1) * toy_people.image_size / 2
    root_moved = pixels - pixels.mean(dim=1, keepdim=True)
    assert torch.allclose(root_moved, expected - expected.mean(dim=1, keepdim=True), atol=0.6)


def test_a_quarter_turn_moves_pixels_with_keypoints(toy_people) -> None:
    sample = all_rows(toy_people)
    angle = torch.full((len(sample),), torch.pi / 2)
    turned = turn(sample, angle, torch.ones_like(angle))
    assert torch.allclose(turned.images, torch.rot90(sample.images, -1, (2, 3)), atol=1e-4)
    x, y = sample.keypoints_2d[..., 0], sample.keypoints_2d[..., 1]
    assert torch.allclose(turned.keypoints_2d[..., :2], torch.stack([-y, x], -1), atol=1e-5)


def test_enlarging_moves_keypoints_and_camera_together(tiny_body, toy_people) -> None:
    sample = all_rows(toy_people)
    zero, scale = torch.zeros(len(sample)), torch.full((len(sample),), 1.2)
    larger = turn(sample, zero, scale)
    pixels = project_pinhole(joints_of(larger, tiny_body), larger.intrinsics)
    expected = (larger.keypoints_2d[..., :2] + 1) * toy_people.image_size / 2
    assert torch.allclose(pixels, expected, atol=1e-3)
    inner = F.interpolate(sample.images, scale_factor=1.2, mode="bilinear")
    side = sample.images.shape[-1]
    start = (inner.shape[-1] - side) // 2
    cut = inner[..., start : start + side, start : start + side]
    assert (cut - larger.images).abs().mean() < 0.05


def test_the_generator_alone_decides(toy_people) -> None:
    sample = all_rows(toy_people)
    first = augment(sample, torch.Generator().manual_seed(1))
    torch.rand(5)
    assert_equal(first, augment(sample, torch.Generator().manual_seed(1)))
    other = augment(sample, torch.Generator().manual_seed(2))
    assert not torch.equal(first.images, other.images)
    assert first.images.min() >= 0 and first.images.max() <= 1


def drawn(settings, people, monkeypatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles in degrees and enlargements that an augmentation turns people by."""
    found = []

    def note(sample, angle, scale, side):
        found.append((angle.rad2deg(), scale))
        return sample

    monkeypatch.setattr(room, "turn_labels", note)
    generator, sample = torch.Generator().manual_seed(0), all_rows(people)
    for _ in range(150):
        augment(sample, generator, settings)
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def test_published_angles_and_scales(toy_people, monkeypatch) -> None:
    angle, enlarged = drawn(PUBLISHED, toy_people, monkeypatch)
    turned = angle[angle != 0]
    assert len(turned) / len(angle) == pytest.approx(0.4, abs=0.03)
    assert turned.abs().max() == pytest.approx(60)
    # 4.6 % of normal angles lie beyond two standard deviations, 31.7 % of scales beyond one.
    assert (turned.abs() > 59.99).float().mean() == pytest.approx(0.046, abs=0.015)
    assert (turned.abs() < 30).float().mean() == pytest.approx(0.683, abs=0.04)
    side = 1 / enlarged
    assert (side.min().item(), side.max().item()) == pytest.approx((0.75, 1.25))
    inside = (side > 0.7501) & (side < 1.2499)
    assert inside.float().mean() == pytest.approx(0.683, abs=0.03)
    assert side.mean() == pytest.approx(1, abs=0.01)


def test_published_keypoints_lie_on_pixels_and_keep_their_confidence(toy_people) -> None:
    sample = all_rows(toy_people)
    changed = augment(sample, torch.Generator().manual_seed(3), PUBLISHED)
    pixels = (changed.keypoints_2d[..., :2] + 1) * toy_people.image_size / 2
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    seen = sample.keypoints_2d[..., 2]
    same = changed.keypoints_2d[..., 2] == seen
    mirrored = changed.keypoints_2d[..., 2] == seen[:, list(EVALUATION_14.mirror)]
    assert (same.all(dim=1) | mirrored.all(dim=1)).all()
