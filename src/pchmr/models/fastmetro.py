"""FastMETRO (Cho et al., ECCV 2022): joint and vertex tokens read the image, twice."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.body import MeshHierarchy
from pchmr.models.hmr import HMRModel, ModelChoice, append_keypoints, in_float32, pad_positions
from pchmr.models.neighborhood import Neighborhood
from pchmr.models.output import HMROutput
from pchmr.models.specs import ModelSpec
from pchmr.models.xs import NUM_JOINTS


class FastMETRO(HMRModel):
    """Camera, joint and vertex tokens over two transformers, the second one narrower.

    Parameter names and their order are those of the published state dict, backbone aside.
    """

    def __init__(self, choice: ModelChoice, spec: ModelSpec, hierarchy: MeshHierarchy) -> None:
        super().__init__(choice, spec, hierarchy)
        wide, narrow = spec.dims
        self.transformer_1 = self._transformer(0, learned_tokens=True)
        self.transformer_2 = self._transformer(1, learned_tokens=False)
        self.dim_reduce_enc_cam = nn.Linear(wide, narrow)
        self.dim_reduce_enc_img = nn.Linear(wide, narrow)
        self.dim_reduce_dec = nn.Linear(wide, narrow)
        self.cam_token_embed = nn.Embedding(1, wide)
        self.joint_token_embed = nn.Embedding(NUM_JOINTS, wide)
        self.vertex_token_embed = nn.Embedding(hierarchy.num_vertices[-1], wide)
        self.xyz_regressor = nn.Linear(narrow, 3)
        self.cam_predictor = nn.Linear(narrow, 3)
        self.conv_1x1 = nn.Conv2d(self.num_features, wide, 1)
        self._add_levels()
        for number, dim in enumerate(spec.dims, start=1):
            self._keep_positions(number, self.grid, self.grid, dim)
        self.neighborhood = Neighborhood(hierarchy.adjacency, NUM_JOINTS)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> HMROutput:
        """Recovers the mesh of each crop from RGB in [0, 1]."""
        features, keypoints, shown = self._features(images)
        features = self.conv_1x1(features)
        height, width = features.shape[-2:]
        image = features.flatten(2).permute(2, 0, 1)
        image = append_keypoints(image, keypoints)
        first, second = (
            pad_positions(self._positions(number, height, width), len(image)) for number in (1, 2)
        )
        tokens = torch.cat([self.joint_token_embed.weight, self.vertex_token_embed.weight])
        camera, image, tokens = self.transformer_1(
            image, self.cam_token_embed.weight[:, None], tokens[:, None], first, self.neighborhood
        )
        camera, tokens = self.dim_reduce_enc_cam(camera), self.dim_reduce_dec(tokens)
        image = self.dim_reduce_enc_img(image)
        camera, _, tokens = self.transformer_2(image, camera, tokens, second, self.neighborhood)
        points = in_float32(self.xyz_regressor, tokens)
        joints, coarse = points.split([NUM_JOINTS, len(points) - NUM_JOINTS])
        return self._output(in_float32(self.cam_predictor, camera)[0], joints, coarse, **shown)
