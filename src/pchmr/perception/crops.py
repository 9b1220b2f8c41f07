"""From a picture to a network's input and back: one affine map each way, nothing rounded.

Coordinates count from the picture's corner: the middle of the first pixel is (0.5, 0.5).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.body.joints import mirror_name
from pchmr.perception.interfaces import Box, Image


@dataclass(frozen=True)
class Crop:
    """An axis-parallel window of the picture, resampled to `width` x `height`.

    Attributes:
        corner: Of the window, pixels of the picture.
        size: Of the window.
        width: Samples across.
        height: Samples down.
        aligned: Whether the first and last sample lie on the window's corners (networks trained
            with unbiased data processing, Huang et al., CVPR 2020) or half a sample inside.
    """

    corner: Float[ndarray, "2"]
    size: Float[ndarray, "2"]
    width: int
    height: int
    aligned: bool = False

    @classmethod
    def around(
        cls, box: Box, width: int, height: int, *, padding: float = 1.25, aligned: bool = False
    ) -> "Crop":
        """The box, padded and grown on its shorter side to the input's aspect."""
        aspect = width / height
        wide, high = box.width, box.height
        if wide > aspect * high:
            high = wide / aspect
        else:
            wide = high * aspect
        size = np.array([wide, high]) * padding
        return cls(box.center - size / 2, size, width, height, aligned)

    @classmethod
    def whole(cls, image: Image, width: int, height: int, *, keep_aspect: bool) -> "Crop":
        """The whole picture, stretched or (`keep_aspect`) padded evenly to the input's aspect."""
        size = np.array([image.shape[1], image.shape[0]], dtype=np.float64)
        if keep_aspect:
            shape = np.array([width, height])
            full = shape * (size / shape).max()
            return cls((size - full) / 2, full, width, height)
        return cls(np.zeros(2), size, width, height)

    @property
    def scale(self) -> Float[ndarray, "2"]:
        """Pixels of the picture per sample."""
        return self.size / (np.array([self.width, self.height]) - self.aligned)

    def locate(
        self, cells: Float[ndarray, "*batch 2"], columns: int, rows: int
    ) -> Float[ndarray, "*batch 2"]:
        """Where cells (0 is the first) of a map of this window lie in the picture."""
        shape = np.array([columns, rows])
        if self.aligned:
            return self.corner + 0.5 + cells / (shape - 1) * self.size
        return self.corner + (cells + 0.5) / shape * self.size

    def cut(self, image: Image) -> Float[Tensor, "3 rows columns"]:
        """The window in [0, 255], bilinear with area smoothing when it shrinks; black outside."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None]
        pixels, block = _smoothed(pixels, self.scale)
        across = np.stack([np.arange(self.width), np.zeros(self.width)], axis=-1)
        down = np.stack([np.zeros(self.height), np.arange(self.height)], axis=-1)
        x = self.locate(across, self.width, self.height)[:, 0] / block[0]
        y = self.locate(down, self.width, self.height)[:, 1] / block[1]
        high, wide = pixels.shape[2:]
        grid_x = torch.from_numpy(2 * x / wide - 1).float().expand(self.height, -1)
        grid_y = torch.from_numpy(2 * y / high - 1).float()[:, None].expand(-1, self.width)
        grid = torch.stack([grid_x, grid_y], dim=-1)[None]
        return F.grid_sample(pixels, grid, align_corners=False, padding_mode="zeros")[0]

    def paste(
        self, values: Float[ndarray, "rows columns"], shape: tuple[int, int]
    ) -> Float[ndarray, "height width"]:
        """A map over the window, any resolution, at every pixel of the picture; NaN outside."""
        assert not self.aligned
        share_x = (np.arange(shape[1]) + 0.5 - self.corner[0]) / self.size[0]
        share_y = (np.arange(shape[0]) + 0.5 - self.corner[1]) / self.size[1]
        flat = 2 * np.stack(np.broadcast_arrays(share_x[None, :], share_y[:, None]), axis=-1) - 1
        source = torch.from_numpy(np.ascontiguousarray(values)).float()[None, None]
        sampled = F.grid_sample(
            source, torch.from_numpy(flat).float()[None], align_corners=False, padding_mode="border"
        )[0, 0].numpy()
        outside = (np.abs(flat) > 1).any(axis=-1)
        return np.where(outside, np.nan, sampled)


def _smoothed(pixels: Tensor, scale: ndarray) -> tuple[Tensor, tuple[float, float]]:
    """Averages whole blocks of pixels before a strong shrink, so that nothing is skipped."""
    blocks = [max(1, int(s)) for s in scale]
    if blocks == [1, 1]:
        return pixels, (1.0, 1.0)
    high, wide = pixels.shape[2:]
    pad = ((-wide) % blocks[0], (-high) % blocks[1])
    pixels = F.pad(pixels, (0, pad[0], 0, pad[1]), mode="replicate")
    pooled = F.avg_pool2d(pixels, (blocks[1], blocks[0]))
    return pooled, (float(blocks[0]), float(blocks[1]))


def heatmap_peaks(
    heatmaps: Float[Tensor, "keypoints rows columns"], crop: Crop
) -> Float[ndarray, "keypoints 3"]:
    """Peaks of heatmaps in pixels of the picture, with their height as confidence.

    The peak is refined by a Newton step on the log of the smoothed map (Zhang et al., DARK, CVPR
    2020); heatmap cell (i, j) spans its share of the crop.
    """
    count, rows, columns = heatmaps.shape
    smooth = _blurred(heatmaps.float().clamp_min(0))
    best = smooth.flatten(start_dim=1).argmax(dim=-1)
    y, x = best // columns, best % columns
    height = heatmaps.flatten(start_dim=1).gather(1, best[:, None])[:, 0]
    log = F.pad(smooth.clamp_min(1e-9).log()[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    row = torch.arange(count, device=heatmaps.device)

    def at(dx: int, dy: int) -> Tensor:
        return log[row, y + 1 + dy, x + 1 + dx]

    gradient = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], dim=-1) / 2
    xx = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    yy = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    hessian = torch.stack([xx, xy, xy, yy], dim=-1).unflatten(-1, (2, 2))
    sound = (xx < -1e-6) & (xx * yy - xy.square() > 1e-9)
    eye = -torch.eye(2).to(hessian)
    safe = torch.where(sound[:, None, None], hessian, eye)
    shift = -torch.linalg.solve(safe, gradient[..., None])[..., 0]
    shift = torch.where(sound[:, None], shift.clamp(-1, 1), 0.0)
    cell = (torch.stack([x, y], dim=-1) + shift).double().cpu().numpy()
    found = crop.locate(cell, columns, rows)
    confidence = height.clamp(0, 1).double().cpu().numpy()
    return np.concatenate([found, confidence[:, None]], axis=-1)


def _blurred(heatmaps: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(heatmaps) / 16
    stack = heatmaps[:, None]
    stack = F.conv2d(F.pad(stack, (2, 2, 0, 0), mode="replicate"), kernel.view(1, 1, 1, 5))
    return F.conv2d(F.pad(stack, (0, 0, 2, 2), mode="replicate"), kernel.view(1, 1, 5, 1))[:, 0]


def normalized(
    pixels: Float[Tensor, "3 height width"], mean: tuple[float, ...], sd: tuple[float, ...]
) -> Float[Tensor, "1 3 height width"]:
    """A batch of one, in standard deviations; mean and sd count like the pixels, 0 to 255."""
    center = torch.tensor(mean).view(3, 1, 1)
    return ((pixels - center) / torch.tensor(sd).view(3, 1, 1))[None]


def find_keypoints(
    network: Callable[[Tensor], Tensor],
    image: Image,
    crop: Crop,
    mirror: Sequence[int],
    *,
    mean: tuple[float, ...],
    sd: tuple[float, ...],
) -> Float[ndarray, "keypoints 3"]:
    """Keypoints of a heatmap network, averaged over the crop and its mirror image.

    Args:
        network: From pixels (1, 3, H, W) to heatmaps (1, K, h, w).
        image: Picture.
        crop: Its window.
        mirror: For each keypoint that is kept, the one on the other side.
        mean: Of the pixels, 0 to 255.
        sd: Of the pixels.
    """
    pixels = normalized(crop.cut(image), mean, sd)
    with torch.inference_mode():
        plain = network(pixels)[0, : len(mirror)]
        turned = network(pixels.flip(-1))[0, : len(mirror)].flip(-1)[list(mirror)]
    return heatmap_peaks((plain.float() + turned.float()).cpu() / 2, crop)


def mirror_rows(names: Sequence[str]) -> tuple[int, ...]:
    """For each name the row of the same point on the other side."""
    return tuple(list(names).index(mirror_name(name)) for name in names)


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SD = (58.395, 57.12, 57.375)
