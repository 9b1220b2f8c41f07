"""Mesh upsampling as a weighted gather over each row's support; never a dense product."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.body.hierarchy import gather_table


class _BagSum(torch.autograd.Function):
    """Sparse rows times dense columns; the gradient gathers over the transposed rows.

    Both directions read, add and write each row once: no scatter, the same bits every time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: "Upsampling") -> Tensor:  # type: ignore[override]
        ctx.table = table
        weights = table.weights.to(x.dtype)
        return F.embedding_bag(table.indices, x, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        table, grad = ctx.table, grads[0].contiguous()
        weights = table.back_weights.to(grad.dtype)
        back = F.embedding_bag(
            table.back_indices,
            grad,
            table.back_offsets,
            per_sample_weights=weights,
            mode="sum",
            include_last_offset=True,
        )
        return back, None


class Upsampling(nn.Module):
    """Fixed weights from a coarser to a finer mesh level; rows need not sum to 1."""

    indices: Int[Tensor, "fine width"]
    weights: Float[Tensor, "fine width"]

    def __init__(self, matrix: csr_matrix) -> None:
        super().__init__()
        indices, weights = gather_table(matrix)
        transposed = csr_matrix(matrix.T)
        transposed.sort_indices()
        tables = {
            "indices": indices,
            "weights": weights,
            "back_indices": transposed.indices.astype(np.int64),
            "back_offsets": transposed.indptr.astype(np.int64),
            "back_weights": transposed.data.astype(np.float32),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, coarse: Float[Tensor, "coarse batch 3"]) -> Float[Tensor, "fine batch 3"]:
        """Vertices of the finer level, vertex axis first."""
        x = coarse.flatten(1)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            fine = self._traced(x)
        else:
            fine = _BagSum.apply(x, self)
        return fine.unflatten(-1, (-1, 3))

    def _traced(self, x: Float[Tensor, "coarse columns"]) -> Float[Tensor, "fine columns"]:
        """The sum in an order that runtimes are fast at: whole tables, the support axis first."""
        rows = x.index_select(0, self.indices.T.flatten()).unflatten(0, (-1, len(self.indices)))
        weights = self.weights.T.to(x.dtype)[..., None].expand(-1, -1, x.shape[1])
        return (rows * weights).sum(dim=0)
