import numpy as np
import pytest
import torch

from pchmr.data.crops import (
    Square,
    centred_intrinsics,
    check_box,
    crop,
    crop_intrinsics,
    fitted,
    overlay_translation,
    shrink,
    square_around,
    whole_image,
)
from pchmr.data.errors import InputError
from pchmr.geometry import project_pinhole, project_weak_perspective


def ramp(height: int = 50, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


def test_whole_pixels_are_copied_and_the_outside_is_black() -> None:
    image = ramp()
    inside = crop(image, Square(20.0, 20.0, 16.0), 16)
    expected = torch.from_numpy(image[12:28, 12:28]).permute(2, 0, 1) / 255
    torch.testing.assert_close(inside, expected)
    corner = crop(image + 1, Square(0.0, 0.0, 20.0), 20)
    assert (corner[:, :10] == 0).all() and (corner[:, :, :10] == 0).all()
    torch.testing.assert_close(
        corner[:, 10:, 10:] * 255, crop(image, Square(5.0, 5.0, 10.0), 10) * 255 + 1
    )


def test_a_ramp_keeps_its_coordinates_under_any_square() -> None:
    # The red channel of the ramp is its row, so a crop must read the row its pixel centre falls on.
    square = Square(33.3, 22.7, 30.0)
    pixels = crop(ramp(), square, 24) * 255
    top = square.bbox_xyxy[1]
    rows = top + (torch.arange(24) + 0.5) * square.side / 24 - 0.5
    torch.testing.assert_close(pixels[0].mean(dim=1)[1:-1], rows[1:-1], atol=0.6, rtol=0)


def test_shrinking_averages() -> None:
    checker = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    shrunk = crop(checker, whole_image(64, 64), 8)
    torch.testing.assert_close(shrunk, torch.full((3, 8, 8), 0.5), atol=0.03, rtol=0)


def test_crop_camera_sees_what_the_crop_shows() -> None:
    intrinsics = torch.tensor([[100.0, 0, 40], [0, 100, 25], [0, 0, 1]])
    points = torch.tensor([[0.1, -0.05, 2.0], [-0.3, 0.2, 3.0]])
    square = Square(30.0, 20.0, 24.0)
    in_image = project_pinhole(points, intrinsics)
    in_crop = project_pinhole(points, crop_intrinsics(intrinsics, square, 48))
    torch.testing.assert_close(in_crop, (in_image - torch.tensor([18.0, 8.0])) * 2)


def test_squares() -> None:
    assert square_around((10.0, 20.0, 30.0, 60.0), margin=1.5) == Square(20.0, 40.0, 60.0)
    assert whole_image(80, 50) == Square(40.0, 25.0, 80.0)
    assert Square(20.0, 40.0, 60.0).bbox_xyxy == (-10, 10, 50, 70)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((10.0, 10.0, 20.0, 22.0), "too small"),
        ((-30.0, 10.0, 8.0, 12.0), "too small"),
        ((90.0, 10.0, 120.0, 40.0), "outside"),
        ((10.0, 10.0, 5.0, 40.0), "outside"),
        ((-1e4, -1e4, 1e4, 1e4), "far larger"),
        ((0.0, 0.0, float("nan"), 20.0), "not finite"),
    ],
)
def test_useless_boxes_are_refused(box: tuple[float, float, float, float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_box(box, 80, 50)


def test_a_usable_box_passes() -> None:
    check_box((-5.0, 3.0, 20.0, 60.0), 80, 50)


def test_a_long_lens_shows_what_the_weak_camera_says() -> None:
    points = torch.tensor([[0.2, -0.4, 0.1], [-0.3, 0.5, -0.1], [0.0, 0.0, 0.0]])
    camera, square = torch.tensor([0.8, 0.05, -0.1]), Square(31.0, 22.0, 24.0)
    weak = project_weak_perspective(points, camera)
    expected = torch.tensor([square.x, square.y]) + weak * square.side / 2
    translation = overlay_translation(camera, square, 1e5, 80, 50)
    seen = project_pinhole(points + translation, centred_intrinsics(1e5, 80, 50))
    torch.testing.assert_close(seen, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(12_000, 4_000), (8_640, 5_760)])
def test_the_square_of_a_large_photo_is_cut(size: tuple[int, int]) -> None:
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = 200
    pixels = crop(image, whole_image(width, height), 96) * 255
    middle = pixels[0, 48]
    assert (middle[:47] > 199).all() and (middle[49:] < 1).all()
    border = (width - height) // 2 * 96 // width
    assert (pixels[0, : border - 1] == 0).all() and (pixels[0, border + 1 : 48, :47] > 199).all()
    assert fitted(image, 160, 90).shape == (90, 160, 3)


def test_large_squares_are_cut_like_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.kron(ramp(), np.ones((8, 8, 1), np.uint8))
    for square in (Square(300.0, 200.0, 500.0), Square(-40.0, 10.0, 900.0)):
        exact = crop(image, square, 32)
        with monkeypatch.context() as patch:
            patch.setattr("pchmr.data.crops.MAX_CANVAS_PIXELS", 200 * 200)
            small = crop(image, square, 32)
        assert float((exact - small).abs().mean()) < 0.005


def test_shrinking_takes_means_of_blocks() -> None:
    image = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)
    small = shrink(image, 3)
    assert small.shape == (3, 3, 3)
    np.testing.assert_allclose(small[0, 0], image[:3, :3].mean(axis=(0, 1)), atol=1)
    np.testing.assert_allclose(small[2, 2], image[6:, 6:].mean(axis=(0, 1)), atol=1)
