"""FastMETRO's optional SMPL parameter regressor: vertices in, 24 rotations and 10 betas out."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body.skinning import NUM_BETAS

HIDDEN = 1024
NUM_ROTATIONS = 24


class _PolarFactor(torch.autograd.Function):
    """U V^T of M = U S V^T, times its own determinant, which carries no gradient.

    The gradient is that of the polar factor, U [(A - A^T) / (s_i + s_j)] V^T with A = U^T G V. It
    equals the gradient through the SVD but stays finite where singular values coincide.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:  # type: ignore[override]
        u, s, vt = torch.linalg.svd(matrix)
        orthogonal = u @ vt
        sign = torch.linalg.det(orthogonal)[..., None, None]
        ctx.save_for_backward(u, s, vt, sign)
        return orthogonal * sign

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        u, s, vt, sign = ctx.saved_tensors
        inner = u.mT @ (grads[0] * sign) @ vt.mT
        sums = (s[..., :, None] + s[..., None, :]).clamp_min(torch.finfo(s.dtype).tiny)
        return u @ ((inner - inner.mT) / sums) @ vt


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """(U V^T) det(U V^T) of each matrix's SVD, as FastMETRO defines it.

    The determinant multiplies the whole matrix, not its last singular direction: a reflection
    turns into its negative, which is a rotation but not the nearest one.
    """
    return _PolarFactor.apply(matrix)  # type: ignore[return-value]


class SingleSafeBatchNorm(nn.BatchNorm1d):
    """Batch normalization that uses running statistics where a batch holds one item."""

    def forward(self, input: Float[Tensor, "batch channels"]) -> Float[Tensor, "batch channels"]:
        """Normalizes; a batch of one in training leaves the statistics alone."""
        if self.training and len(input) > 1:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Block(nn.Module):
    """Linear, norm, ReLU; a second linear and norm where the block is residual."""

    def __init__(self, inputs: int, *, is_residual: bool) -> None:
        super().__init__()
        self.is_residual = is_residual
        layers: list[nn.Module] = [nn.Linear(inputs, HIDDEN), SingleSafeBatchNorm(HIDDEN)]
        layers.append(nn.ReLU())
        if is_residual:
            layers += [nn.Linear(HIDDEN, HIDDEN), SingleSafeBatchNorm(HIDDEN)]
        self.fc_block = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch hidden"]:
        """The block."""
        return F.relu(x + self.fc_block(x)) if self.is_residual else self.fc_block(x)


class SMPLHead(nn.Module):
    """Rotations and betas from the middle mesh level (FastMETRO, supplementary)."""

    def __init__(self, num_vertices: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            Block(3 * num_vertices, is_residual=False),
            Block(HIDDEN, is_residual=True),
            Block(HIDDEN, is_residual=True),
            nn.Linear(HIDDEN, 9 * NUM_ROTATIONS + NUM_BETAS),
        )

    def forward(
        self, vertices: Float[Tensor, "batch mid 3"]
    ) -> tuple[Float[Tensor, "batch 24 3 3"], Float[Tensor, "batch 10"]]:
        """Rotation matrices and betas; no gradient reaches the vertices."""
        values = self.regressor(vertices.detach().flatten(1))
        rotations, betas = values.split([9 * NUM_ROTATIONS, NUM_BETAS], dim=1)
        with torch.autocast(values.device.type, enabled=False):
            rotmat = nearest_rotation(rotations.float().unflatten(1, (NUM_ROTATIONS, 3, 3)))
        return rotmat, betas.float()
