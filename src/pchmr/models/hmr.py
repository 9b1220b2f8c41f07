"""What FastMETRO and TORE share: images to tokens, tokens to a mesh on three levels."""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body import MeshHierarchy
from pchmr.config import require
from pchmr.door import Json
from pchmr.models.backbone import backbone_spec
from pchmr.models.folded import FoldedBackbone
from pchmr.models.output import HMROutput
from pchmr.models.smpl_head import SMPLHead
from pchmr.models.specs import ModelSpec
from pchmr.models.transformer import DecoderLayer, Transformer, sine_positions
from pchmr.models.upsampling import Upsampling
from pchmr.models.xs import KeypointHead, KeypointOutput

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Everything beside the weights that a network is built from; stored in checkpoints.

    Attributes:
        model: Key of `MODELS`.
        backbone: Key of `BACKBONES`.
        image_size: Side of a crop in pixels.
        smpl_head: Whether an SMPL parameter regressor follows.
        keep_ratio: Share of the image tokens that TORE pools to.
        num_tokens: Their number, where weights fix it; otherwise `keep_ratio` of the grid.
        learned_upsample: Whether mid to fine vertices is a learned layer.
    """

    model: str
    backbone: str
    image_size: int
    smpl_head: bool = False
    keep_ratio: float = 0.8
    num_tokens: int | None = None
    learned_upsample: bool = False

    def as_dict(self) -> Json:
        """Plain values."""
        return asdict(self)


class LearnedUpsampling(nn.Linear):
    """FastMETRO's linear layer over the vertex axis."""

    def forward(self, input: Float[Tensor, "coarse batch 3"]) -> Float[Tensor, "fine batch 3"]:
        """Vertices of the finer level, vertex axis first."""
        fine = torch.addmm(self.bias[:, None], self.weight, input.flatten(1))
        return fine.unflatten(-1, (-1, 3))


class HMRModel(nn.Module):
    """A network from crops to a camera, joints and a mesh; see `FastMETRO` and `TORE`.

    Attributes:
        name: Key of `MODELS`.
        image_size: Side of the crops it is made for, in pixels.
        hierarchy: Mesh levels that its vertices belong to.
        choice: What it was built from.
    """

    joint_token_embed: nn.Embedding
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, choice: ModelChoice, spec: ModelSpec, hierarchy: MeshHierarchy) -> None:
        super().__init__()
        self.choice, self.spec, self.hierarchy = choice, spec, hierarchy
        self.name, self.image_size = choice.model, choice.image_size
        backbone = backbone_spec(choice.backbone)
        self.grid = math.ceil(choice.image_size / backbone.stride)
        self.num_features = backbone.num_features
        self.backbone = backbone.make()
        self.folded: FoldedBackbone | None = FoldedBackbone()
        for name, values in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def _keep_positions(self, number: int, height: int, width: int, dim: int) -> None:
        table = sine_positions(height, width, dim)
        self.register_buffer(f"position_encoding_{number}", table, persistent=False)

    def _transformer(self, stage: int, *, learned_tokens: bool) -> Transformer:
        """The transformer of a width: stage 0 wide, stage 1 narrow."""
        spec = self.spec
        return Transformer(
            spec.num_layers,
            spec.dims[stage],
            spec.ffn_dims[stage],
            spec.num_heads[stage],
            spec.dropout,
            learned_tokens=learned_tokens,
        )

    def _add_levels(self) -> None:
        """Upsampling, the SMPL head and the keypoint head: last in the published key order."""
        fine, mid, coarse = self.hierarchy.num_vertices
        to_fine, to_mid = self.hierarchy.upsample
        self.coarse2intermediate_upsample = (
            LearnedUpsampling(coarse, mid) if self.spec.learned_coarse else Upsampling(to_mid)
        )
        self.intermediate2fine_upsample = (
            LearnedUpsampling(mid, fine) if self.choice.learned_upsample else Upsampling(to_fine)
        )
        self.smpl_parameter_regressor = SMPLHead(mid) if self.choice.smpl_head else None
        self.keypoint_head = KeypointHead(self.spec.dims[0]) if self.spec.keypoint_head else None

    def _features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch channels rows columns"], Tensor | None, dict[str, Tensor]]:
        """Image features, keypoint tokens if any, and what training wants to see of them."""
        features = self._maps(images)
        if self.keypoint_head is None:
            if isinstance(features, tuple):
                features = features[-1]
            return features, None, {}
        fine, features = features
        tokens, seen = self.keypoint_head(fine, features)
        tokens = tokens + self.joint_token_embed.weight[:, None]
        if not self.training:
            return features, tokens, {}
        shown = {"keypoints_2d": seen.places, "keypoint_depth": seen.depths}
        return features, tokens, {**shown, "keypoint_maps": seen.maps}

    def _maps(self, images: Float[Tensor, "batch 3 height width"]) -> Any:
        """The backbone's map, or maps, of RGB in [0, 1]."""
        images = (images - self.image_mean) / self.image_std
        if self.folded is not None and self.folded.fits(self.backbone, images):
            return self.folded(self.backbone, images)
        extract: Callable[[Tensor], Any] = self.backbone.forward_features  # type: ignore[assignment]
        return extract(images)

    def keypoints(self, images: Float[Tensor, "batch 3 height width"]) -> KeypointOutput:
        """What the keypoint head sees, without the mesh: a third of its cost.

        Raises:
            SettingError: The network has no keypoint head.
        """
        require(self.keypoint_head is not None, f"{self.name} has no keypoint head to train")
        assert self.keypoint_head is not None
        return self.keypoint_head(*self._maps(images))[1]

    @torch.no_grad()
    def pinned_copy(self) -> "HMRModel":
        """An evaluation copy for export: its graph holds what depends on weights alone.

        The copy must not be trained or filled with other weights.
        """
        copied = copy.deepcopy(self).eval()
        size = (1, 3, self.image_size, self.image_size)
        copied(torch.zeros(size, device=self.image_mean.device))
        for module in copied.modules():
            if isinstance(module, DecoderLayer) and module.constant:
                module.constant.pin()
        return copied

    def _positions(self, number: int, height: int, width: int) -> Float[Tensor, "cells 1 channels"]:
        """Encoding of a grid; made anew where the images have another size than `image_size`."""
        table = self.get_buffer(f"position_encoding_{number}")
        if len(table) != height * width or height != width:
            table = sine_positions(height, width, table.shape[-1]).to(table)
        return table

    def _output(
        self,
        camera: Float[Tensor, "batch 3"],
        joints: Float[Tensor, "14 batch 3"],
        coarse: Float[Tensor, "coarse batch 3"],
        **more: Tensor,
    ) -> HMROutput:
        """The mesh on all levels, batch axis first."""
        mid = self.coarse2intermediate_upsample(coarse)
        fine = self.intermediate2fine_upsample(mid)
        joints, coarse, mid, fine = (x.transpose(0, 1) for x in (joints, coarse, mid, fine))
        if self.smpl_parameter_regressor is not None:
            more["rotmat"], more["betas"] = self.smpl_parameter_regressor(mid)
        return HMROutput(camera, joints, coarse, mid, fine, **more)  # type: ignore[arg-type]


def in_float32(layer: nn.Linear, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch 3"]:
    """A last layer outside of automatic mixed precision: bfloat16 would round metres to mm."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


def append_keypoints(
    image: Float[Tensor, "image batch channels"],
    keypoints: Float[Tensor, "14 batch channels"] | None,
) -> Float[Tensor, "memory batch channels"]:
    """Image tokens with keypoint tokens, if any, behind them."""
    return image if keypoints is None else torch.cat([image, keypoints])


def pad_positions(
    positions: Float[Tensor, "image 1 channels"], length: int
) -> Float[Tensor, "memory 1 channels"]:
    """Zeros behind the encoding: tokens after the image's have no place on the grid."""
    return F.pad(positions, (0, 0, 0, 0, 0, length - len(positions)))
