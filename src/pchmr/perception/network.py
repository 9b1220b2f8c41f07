"""The embedded prior's network: keypoints, their depth, and how sure it is of both, from one crop.

The backbone of the XS models, and one heat map a point. Where a map's mean lies is the place; the
mean of a depth map under it is the depth; two more maps tell how far off both usually are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body.joints import COCO_23, EVALUATION_14
from pchmr.config import SettingError
from pchmr.models.hmr import IMAGE_MEAN, IMAGE_STD
from pchmr.models.xs import GROUP_WIDTH, WIDTHS, XSBackbone, cell_centers
from pchmr.perception.names import SIDES
from pchmr.runs import replacing

NAMES = (
    *COCO_23.names,
    *(f"{side}_{finger}1" for side in SIDES for finger in ("forefinger", "pinky_finger")),
)
"""Body, face and feet of COCO, and the outer knuckles of each hand."""

IMAGE_SIZE = 112
HEAD_WIDTH = 64
FIRST_SPREAD = -2.5  # logarithm; about 5 px of 112, and 8 cm
SCALE_RANGE = (-5.0, 0.5)  # of the logarithm of a spread
NOTE = "pchmr_prior"


class Seen(NamedTuple):
    """What the network says of a batch of crops.

    Attributes:
        places: Crop coordinates [-1, 1].
        depths: Metres behind the middle of the hips, of the surface in front of each point.
        place_spread: Mean distance of the true place along an axis, crop coordinates.
        depth_spread: Mean distance of the true depth, metres.
        maps: Logits over the cells at stride 8.
    """

    places: Float[Tensor, "batch points 2"]
    depths: Float[Tensor, "batch points"]
    place_spread: Float[Tensor, "batch points"]
    depth_spread: Float[Tensor, "batch points"]
    maps: Float[Tensor, "batch points rows columns"]


def _merged(inputs: int, outputs: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.GroupNorm(outputs // GROUP_WIDTH, outputs))


class PriorNetwork(nn.Module):
    """From crops, RGB in [0, 1], to `Seen`."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, num_points: int = len(NAMES)) -> None:
        super().__init__()
        self.num_points = num_points
        self.backbone = XSBackbone()
        self.lateral = _merged(WIDTHS[-2], HEAD_WIDTH, 1)
        self.top = _merged(WIDTHS[-1], HEAD_WIDTH, 1)
        self.merge = _merged(HEAD_WIDTH, HEAD_WIDTH, 3)
        self.maps = nn.Conv2d(HEAD_WIDTH, 4 * num_points, 1)
        for name, values in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Seen:
        """Points of each crop."""
        fine, coarse = self.backbone.forward_features((images - self.image_mean) / self.image_std)
        rows, columns = fine.shape[-2:]
        top = F.interpolate(self.top(coarse), size=(rows, columns), mode="nearest")
        merged = F.relu_(self.merge(F.relu_(self.lateral(fine) + top)))
        heat, *values = self.maps(merged).float().flatten(2).chunk(4, dim=1)
        share = heat.softmax(dim=-1)
        depths, place_log, depth_log = ((share * value).sum(dim=-1) for value in values)
        return Seen(
            share @ cell_centers(rows, columns, heat),
            depths,
            place_log.clamp(*SCALE_RANGE).exp(),
            depth_log.clamp(*SCALE_RANGE).exp(),
            heat.unflatten(-1, (rows, columns)),
        )

    @torch.no_grad()
    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the backbone and the keypoint head of an XS model.

        A point that the head does not know begins as the joint next to it.

        Raises:
            SettingError: The tensors hold no XS backbone with a keypoint head.
        """
        own = self.state_dict()
        found = {n: t.float() for n, t in _renamed(tensors).items() if n in own}
        known = len(EVALUATION_14)
        try:
            weight, bias = (tensors[f"keypoint_head.maps.{n}"].float() for n in ("weight", "bias"))
            rows = [EVALUATION_14.index(_nearest(name)) for name in NAMES]
            heat, depth = weight[:known][rows], weight[known:][rows]
            found["maps.weight"] = torch.cat([heat, depth, 0 * heat, 0 * heat])
            heat, depth = bias[:known][rows], bias[known:][rows]
            spread = torch.full_like(heat, FIRST_SPREAD)
            found["maps.bias"] = torch.cat([heat, depth, spread, spread])
            self.load_state_dict(found)
        except (KeyError, RuntimeError):
            raise SettingError(
                "the start weights hold no XS backbone with a keypoint head: give the result of "
                "`pchmr train --recipe start-keypoints`"
            ) from None


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("keypoint_head."): tensor for name, tensor in tensors.items()}


def _nearest(name: str) -> str:
    """The evaluation joint that a point starts from."""
    side = name.split("_")[0]
    if name in EVALUATION_14.names:
        return name
    if name.endswith(("toe", "heel")):
        return f"{side}_ankle"
    return f"{side}_wrist" if name.endswith("1") else "head_top"


def save_network(path: Path, network: PriorNetwork, note: Mapping[str, Any]) -> None:
    """Writes weights in float16 and what they are."""
    tensors = {n: t.detach().half().cpu().contiguous() for n, t in network.state_dict().items()}
    about = {"num_points": network.num_points, **note}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={NOTE: json.dumps(about)})


def load_network(path: Path) -> PriorNetwork:
    """The network of a file, in evaluation mode and float32.

    Raises:
        SettingError: The file is missing or holds other weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get(NOTE, "null"))
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if note is None or note["num_points"] != len(NAMES):
            raise SettingError(
                f"{path} is no network of `python -m pchmr.workshop.keypoint_prior`, "
                "or one of other keypoints"
            )
        network = PriorNetwork()
        network.load_state_dict(state)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, SettingError):
            raise
        first = str(error).strip().splitlines()[0]
        raise SettingError(f"cannot read the embedded prior {path}: {first}") from None
    return network.eval()
