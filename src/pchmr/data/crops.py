"""Square crops around a person: bilinear, black beyond the border, and their camera.

Pixel coordinates are continuous: the first pixel spans 0 to 1, so its centre lies at 0.5.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pchmr.data.errors import InputError

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
MARGIN = 1.2
MAX_CANVAS_PIXELS = 8_000_000  # of a square at full size: larger ones are read at reduced size
BAND_ROWS = 32  # of the shrunk image, made at a time
MIN_BOX_SIDE = 16.0
# A box further out than this would cost memory for nothing but black border.
MAX_BOX_RATIO = 4.0


@dataclass(frozen=True)
class Square:
    """A square of an image in pixels: centre and side."""

    x: float
    y: float
    side: float

    @property
    def bbox_xyxy(self) -> Box:
        """Left, top, right, bottom in pixels."""
        half = self.side / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


def square_around(bbox_xyxy: Box, margin: float = MARGIN) -> Square:
    """The square about a box's centre, `margin` times its longer side."""
    left, top, right, bottom = bbox_xyxy
    side = margin * max(right - left, bottom - top)
    return Square((left + right) / 2, (top + bottom) / 2, side)


def whole_image(width: int, height: int) -> Square:
    """The smallest square that holds the whole image."""
    return Square(width / 2, height / 2, float(max(width, height)))


def check_box(bbox_xyxy: Box, width: int, height: int) -> None:
    """Refuses a box that no person can be seen in.

    Raises:
        InputError: Under 16 pixels on its longer visible side, or far larger than the image.
    """
    left, top, right, bottom = bbox_xyxy
    shown = f"box {left:g},{top:g},{right - left:g},{bottom - top:g}"
    if not all(math.isfinite(value) for value in bbox_xyxy):
        raise InputError(f"{shown} is not finite: give x,y,w,h in pixels")
    visible_width = min(right, width) - max(left, 0.0)
    visible_height = min(bottom, height) - max(top, 0.0)
    if visible_width <= 0 or visible_height <= 0:
        raise InputError(f"{shown} lies outside the {width} x {height} image: give x,y,w,h in it")
    if max(visible_width, visible_height) < MIN_BOX_SIDE:
        raise InputError(
            f"{shown} shows under {MIN_BOX_SIDE:.0f} pixels of a person, too small to use: "
            "give a larger box or photo"
        )
    if max(right - left, bottom - top) > MAX_BOX_RATIO * max(width, height):
        raise InputError(f"{shown} is far larger than the {width} x {height} image: make it fit")


def crop(
    image: UInt8[np.ndarray, "height width 3"], square: Square, image_size: int
) -> Float[Tensor, "3 image_size image_size"]:
    """The square resampled to `image_size` pixels, RGB in [0, 1]; black outside the image.

    Shrinking averages over the pixels that a new one covers, so nothing flickers. Memory is that
    of a few megapixels, however large the square.
    """
    block = math.ceil(square.side / math.sqrt(MAX_CANVAS_PIXELS))
    small = shrink(image, block)
    left, top, right, bottom = (edge / block for edge in square.bbox_xyxy)
    outer = (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    inner = (left - outer[0], top - outer[1], right - outer[0], bottom - outer[1])
    x, y = max(outer[0], 0), max(outer[1], 0)
    part = small[y : max(outer[3], 0), x : max(outer[2], 0)]
    padded = Image.new("RGB", (outer[2] - outer[0], outer[3] - outer[1]))
    if part.size:
        padded.paste(Image.fromarray(part), (x - outer[0], y - outer[1]))
    pixels = padded.resize((image_size, image_size), Image.Resampling.BILINEAR, box=inner)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


def shrink(
    image: UInt8[np.ndarray, "height width 3"], block: int
) -> UInt8[np.ndarray, "few_rows few_columns 3"]:
    """The image with each block of pixels averaged into one; edge blocks hold what is there.

    Goes band by band, so that no second copy of a large image is made.
    """
    if block <= 1:
        return image
    height, width = image.shape[:2]
    small = np.empty((-(-height // block), -(-width // block), 3), dtype=np.uint8)
    for row in range(0, len(small), BAND_ROWS):
        band = image[row * block : (row + BAND_ROWS) * block]
        small[row : row + BAND_ROWS] = np.asarray(Image.fromarray(band).reduce(block))
    return small


def fitted(
    image: UInt8[np.ndarray, "height width 3"], width: int, height: int
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """The whole image at another size; a strong shrink averages blocks first, to save memory."""
    block = math.floor(min(image.shape[1] / width, image.shape[0] / height) / 2)
    canvas = Image.fromarray(shrink(image, block) if image.size > MAX_CANVAS_PIXELS else image)
    return np.array(canvas.resize((width, height), Image.Resampling.LANCZOS))


def crop_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], square: Square, image_size: int
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics in pixels of the crop from those of the whole image."""
    left, top, _, _ = square.bbox_xyxy
    scale = image_size / square.side
    to_crop = intrinsics.new_tensor(
        [[scale, 0.0, -scale * left], [0.0, scale, -scale * top], [0.0, 0.0, 1.0]]
    )
    return to_crop @ intrinsics


def overlay_translation(
    camera: Float[Tensor, "*batch 3"], square: Square, focal_length: float, width: int, height: int
) -> Float[Tensor, "*batch 3"]:
    """Where a mesh stands before a pinhole camera so that it covers what a weak camera says.

    Args:
        camera: Weak perspective (s, tx, ty) of the crop, see `geometry.project_weak_perspective`.
        square: The crop in the image.
        focal_length: In pixels of the image; the longer, the closer to weak perspective.
        width: Of the image; the principal point is its middle.
        height: Of the image.

    Returns:
        Translation in metres, camera frame.
    """
    scale, shift = camera[..., :1], camera[..., 1:]
    metres_per_pixel = 2 / (scale * square.side)
    offset = camera.new_tensor([square.x - width / 2, square.y - height / 2])
    return torch.cat([shift + offset * metres_per_pixel, focal_length * metres_per_pixel], dim=-1)


def centred_intrinsics(focal_length: float, width: int, height: int) -> Float[Tensor, "3 3"]:
    """Pinhole intrinsics with the principal point in the middle of the image."""
    return torch.tensor(
        [[focal_length, 0.0, width / 2], [0.0, focal_length, height / 2], [0.0, 0.0, 1.0]]
    )
