"""TORE (Dou et al., ICCV 2023) on FastMETRO: fewer image tokens, vertices from joints."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body import MeshHierarchy
from pchmr.config import SettingError
from pchmr.models.hmr import HMRModel, ModelChoice, append_keypoints, in_float32, pad_positions
from pchmr.models.neighborhood import Neighborhood
from pchmr.models.output import HMROutput
from pchmr.models.specs import ModelSpec
from pchmr.models.xs import NUM_JOINTS


class SelectorConv(nn.Conv2d):
    """3x3 convolution as one matrix product: a fifth of the direct algorithm's rounding error.

    It sums 4608 products a cell at full width, and the softmax behind it decides what is kept.
    """

    def forward(
        self, input: Float[Tensor, "batch _ rows columns"]
    ) -> Float[Tensor, "batch _ rows columns"]:
        """The convolution; a traced graph keeps it as such."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(input)
        patches = F.unfold(input, self.kernel_size, padding=1)
        mixed = self.weight.flatten(1) @ patches
        assert self.bias is not None
        return (mixed + self.bias[:, None]).unflatten(-1, input.shape[-2:])


class TORE(HMRModel):
    """Image tokens pooled to a share of the grid; a third transformer from joints to vertices.

    Parameter names and their order are those of the published state dict, backbone aside.
    """

    position_encoding_1: Tensor
    position_encoding_2: Tensor
    position_encoding_3: Tensor

    def __init__(self, choice: ModelChoice, spec: ModelSpec, hierarchy: MeshHierarchy) -> None:
        super().__init__(choice, spec, hierarchy)
        wide, narrow = spec.dims
        self.num_tokens = choice.num_tokens or self._kept(choice.keep_ratio)
        self.choice = replace(choice, num_tokens=self.num_tokens)
        self.token_selector_conv2d = SelectorConv(wide, spec.selector_dim, 3, padding=1)
        self.token_selector_fc = nn.Linear(spec.selector_dim, self.num_tokens)
        self.layer_norm = nn.LayerNorm([self.num_tokens, wide])
        self.transformer_1 = self._transformer(0, learned_tokens=True)
        self.transformer_2 = self._transformer(1, learned_tokens=False)
        self.transformer_3 = self._transformer(1, learned_tokens=True)
        self.dim_reduce_enc = nn.Linear(wide, narrow)
        self.dim_reduce_dec = nn.Linear(wide, narrow)
        self.cam_token_embed = nn.Embedding(1, wide)
        self.joint_token_embed = nn.Embedding(NUM_JOINTS, wide)
        self.vertex_token_embed = nn.Embedding(hierarchy.num_vertices[-1], narrow)
        self.xyz_regressor_j = nn.Linear(narrow, 3)
        self.xyz_regressor_v = nn.Linear(narrow, 3)
        self.conv_1x1 = nn.Conv2d(self.num_features, wide, 1)
        self.cam_predictor = nn.Linear(narrow, 3)
        self._add_levels()
        self._keep_positions(1, self.num_tokens, 1, wide)
        self._keep_positions(2, self.num_tokens, 1, narrow)
        self._keep_positions(3, NUM_JOINTS, 1, narrow)
        self.neighborhood = Neighborhood(hierarchy.adjacency, 0)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> HMROutput:
        """Recovers the mesh of each crop from RGB in [0, 1]."""
        features, keypoints, shown = self._features(images)
        image, heat = self._pool(self.conv_1x1(features))
        image = append_keypoints(image.transpose(0, 1), keypoints)
        first, second = (
            pad_positions(table, len(image))
            for table in (self.position_encoding_1, self.position_encoding_2)
        )
        camera, image, joints = self.transformer_1(
            image,
            self.cam_token_embed.weight[:, None],
            self.joint_token_embed.weight[:, None],
            first,
        )
        camera, image = self.dim_reduce_enc(camera), self.dim_reduce_enc(image)
        camera, _, joints = self.transformer_2(image, camera, self.dim_reduce_dec(joints), second)
        _, _, vertices = self.transformer_3(
            joints,
            camera,
            self.vertex_token_embed.weight[:, None],
            self.position_encoding_3,
            self.neighborhood,
        )
        return self._output(
            in_float32(self.cam_predictor, camera)[0],
            in_float32(self.xyz_regressor_j, joints),
            in_float32(self.xyz_regressor_v, vertices),
            token_heatmap=heat.float(),
            **shown,
        )

    def _kept(self, keep_ratio: float) -> int:
        kept = int(self.grid**2 * keep_ratio)
        if not 1 <= kept <= self.grid**2:
            raise SettingError(
                f"keep_ratio {keep_ratio} keeps {kept} of {self.grid**2} image tokens; it must lie "
                "in (0, 1] and keep at least one"
            )
        return kept

    def _pool(
        self, features: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch tokens channels"], Float[Tensor, "batch tokens cells"]]:
        """Image token pooling: each token is a learned mean over the grid (TORE, section 3.3)."""
        hidden = F.gelu(self.token_selector_conv2d(features)).flatten(2).mT
        heat = self.token_selector_fc(hidden).softmax(dim=1).mT
        return self.layer_norm(heat @ features.flatten(2).mT), heat
