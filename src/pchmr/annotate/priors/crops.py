"""From a picture to a network's input and back: one affine map each way, nothing rounded.

Coordinates count from the picture's corner: the middle of the first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.annotate.priors.interfaces import Box, Image


@dataclass(frozen=True)
class Crop:
    """An axis-parallel window of the picture, resampled to `width` x `height`.

    `picture = corner + crop * scale`, x and y.
    """

    corner: Float[ndarray, "2"]
    scale: Float[ndarray, "2"]
    width: int
    height: int

    @classmethod
    def around(cls, box: Box, width: int, height: int, padding: float = 1.25) -> "Crop":
        """The box, padded and grown on its shorter side to the input's aspect."""
        aspect = width / height
        wide, high = box.width, box.height
        if wide > aspect * high:
            high = wide / aspect
        else:
            wide = high * aspect
        size = np.array([wide, high]) * padding
        return cls(box.center - size / 2, size / np.array([width, height]), width, height)

    @classmethod
    def whole(cls, image: Image, width: int, height: int, *, keep_aspect: bool) -> "Crop":
        """The whole picture, stretched or (`keep_aspect`) padded evenly to the input's aspect."""
        size = np.array([image.shape[1], image.shape[0]], dtype=np.float64)
        if keep_aspect:
            full = np.array([width, height]) * max(size / np.array([width, height]))
            return cls((size - full) / 2, full / np.array([width, height]), width, height)
        return cls(np.zeros(2), size / np.array([width, height]), width, height)

    def cut(self, image: Image) -> Float[Tensor, "3 height width"]:
        """The window in [0, 255], bilinear with area smoothing when it shrinks; black outside."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()[None]
        pixels, shrink = _smoothed(pixels, self.scale)
        x = (self.corner[0] + (np.arange(self.width) + 0.5) * self.scale[0]) / shrink[0]
        y = (self.corner[1] + (np.arange(self.height) + 0.5) * self.scale[1]) / shrink[1]
        high, wide = pixels.shape[2:]
        grid_x = torch.from_numpy(2 * x / wide - 1).float().expand(self.height, -1)
        grid_y = torch.from_numpy(2 * y / high - 1).float()[:, None].expand(-1, self.width)
        grid = torch.stack([grid_x, grid_y], dim=-1)[None]
        return F.grid_sample(pixels, grid, align_corners=False, padding_mode="zeros")[0]

    def to_picture(self, points: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch 2"]:
        """Points of the crop in the picture."""
        return self.corner + points * self.scale

    def paste(
        self, values: Float[ndarray, "rows columns"], shape: tuple[int, int]
    ) -> Float[ndarray, "height width"]:
        """A map over the crop (any resolution) seen at every pixel of the picture; NaN outside."""
        rows, columns = values.shape
        x = (np.arange(shape[1]) + 0.5 - self.corner[0]) / self.scale[0] * columns / self.width
        y = (np.arange(shape[0]) + 0.5 - self.corner[1]) / self.scale[1] * rows / self.height
        grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
        flat = 2 * grid / np.array([columns, rows]) - 1
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
    cell = torch.stack([x, y], dim=-1) + 0.5 + shift
    size = np.array([crop.width / columns, crop.height / rows])
    found = crop.to_picture(cell.double().cpu().numpy() * size)
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


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SD = (58.395, 57.12, 57.375)
