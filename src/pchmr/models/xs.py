"""The XS backbone and its keypoint head: an own small residual network for CPUs and phones.

Group normalization: batch statistics of a client with ten images would spoil what the server
averages; a second backbone has them all the same, for comparisons of what to do about it. Pictures
of 112 px give a 7x7 map; the head reads joints off the 14x14 map before.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body.joints import EVALUATION_14

GROUP_WIDTH = 8
WIDTHS = (48, 96, 192)
DEPTHS = (1, 3, 3)
SMALL_START = 0.2
NUM_JOINTS = len(EVALUATION_14)


Norm = Callable[[int], nn.Module]
"""A normalization layer for so many channels."""


def _groups(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // GROUP_WIDTH, channels)


def _conv(
    inputs: int, outputs: int, size: int, stride: int = 1, norm: Norm = _groups
) -> nn.Sequential:
    """Convolution without bias, then normalization."""
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, norm(outputs))


class Bottleneck(nn.Module):
    """Residual block: narrow to half, 3x3, widen (He et al. 2016); starts near the identity."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.narrow = _conv(width, width // 2, 1, norm=norm)
        self.spread = _conv(width // 2, width // 2, 3, norm=norm)
        self.widen = _conv(width // 2, width, 1, norm=norm)
        nn.init.constant_(self.widen[1].weight, SMALL_START)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The block; shape stays."""
        branch = F.relu_(self.spread(F.relu_(self.narrow(x))))
        return F.relu_(x + self.widen(branch))


class XSBackbone(nn.Module):
    """Maps at stride 8 and 16 from normalized images of any size from 64 px on."""

    num_features = WIDTHS[-1]

    def __init__(self, norm: Norm = _groups) -> None:
        super().__init__()
        self.stem = _conv(3, WIDTHS[0], 7, stride=4, norm=norm)
        stages = []
        for level, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            blocks: list[nn.Module] = [Bottleneck(width, norm) for _ in range(depth)]
            if level:
                down = _conv(WIDTHS[level - 1], width, 3, stride=2, norm=norm)
                blocks = [down, nn.ReLU(True), *blocks]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward_features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch _ rows8 columns8"], Float[Tensor, "batch _ rows columns"]]:
        """Feature maps at stride 8 and 16."""
        x = F.relu_(self.stem(images))
        x = self.stages[0](x)
        fine = self.stages[1](x)
        return fine, self.stages[2](fine)


class KeypointOutput(NamedTuple):
    """Joints as seen in the image plane.

    Attributes:
        places: Crop coordinates [-1, 1].
        depths: Metres behind the root.
        maps: Logits over the cells of the map at stride 8.
    """

    places: Float[Tensor, "batch 14 2"]
    depths: Float[Tensor, "batch 14"]
    maps: Float[Tensor, "batch 14 rows columns"]


class KeypointHead(nn.Module):
    """One heat map a joint; its mean place, its mean depth, and the feature seen through it.

    The features become memory tokens of the transformer. Places and depths are trained against
    the image, which ends the long plateau of a regressor that starts from random weights.
    """

    def __init__(self, dim: int, width: int = 64) -> None:
        """Builds the head.

        Args:
            dim: Width of the transformer's tokens.
            width: Channels of the merged map.
        """
        super().__init__()
        self.lateral = _conv(WIDTHS[-2], width, 1)
        self.top = _conv(WIDTHS[-1], width, 1)
        self.merge = _conv(width, width, 3)
        self.maps = nn.Conv2d(width, 2 * NUM_JOINTS, 1)
        self.token = nn.Linear(width + 3, dim)

    def forward(
        self,
        fine: Float[Tensor, "batch _ rows8 columns8"],
        coarse: Float[Tensor, "batch _ rows columns"],
    ) -> tuple[Float[Tensor, "14 batch dim"], KeypointOutput]:
        """Memory tokens, and what the heat maps say.

        Args:
            fine: Map at stride 8.
            coarse: Map at stride 16.
        """
        rows, columns = fine.shape[-2:]
        top = F.interpolate(self.top(coarse), size=(rows, columns), mode="nearest")
        merged = F.relu_(self.merge(F.relu_(self.lateral(fine) + top)))
        with torch.autocast(merged.device.type, enabled=False):
            merged = merged.float()
            heat, depth = self.maps(merged).flatten(2).chunk(2, dim=1)
            weights = heat.softmax(dim=-1)
            place = weights @ cell_centers(rows, columns, heat)
            depth = (weights * depth).sum(dim=-1)
            seen = weights @ merged.flatten(2).mT
        tokens = self.token(torch.cat([seen, place, depth[..., None]], dim=-1))
        return tokens.transpose(0, 1), KeypointOutput(place, depth, heat.unflatten(-1, (rows, -1)))


def cell_centers(rows: int, columns: int, like: Tensor) -> Float[Tensor, "cells 2"]:
    """Centers (x, y) of the cells of a grid over the crop, row by row, in [-1, 1]."""
    y, x = (
        (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5) * (2 / n) - 1
        for n in (rows, columns)
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
