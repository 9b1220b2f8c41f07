"""Masked self-attention over mesh vertices, computed only where the mask is open.

The published mask lets a vertex see itself, its mesh neighbors and every joint: 92 % of the table
is closed. Here vertices are cut into small patches; each patch attends to the joints and to the
vertices within one edge of it. The result equals dense masked attention up to rounding.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor, nn
from torch.nn import functional as F

PATCH_SIZE = 32
ALIGNMENT = 8  # mask rows a multiple of 8 long keep CUDA's fused attention
WORTHWHILE = 0.6  # a dense product is faster above this share of the table


class Neighborhood(nn.Module):
    """Which tokens see which: leading tokens all, vertices their neighbors and leading tokens."""

    allowed: Tensor
    queries: Tensor
    keys: Tensor
    place: Tensor
    bias: Tensor

    def __init__(self, adjacency: Bool[ndarray, "vertices vertices"], num_leading: int) -> None:
        """Plans the patches.

        Args:
            adjacency: Symmetric neighbor table, self included.
            num_leading: Tokens before the vertices that see and are seen by all (the joints).
        """
        super().__init__()
        self.num_leading = num_leading
        allowed = np.ones((num_leading + len(adjacency),) * 2, dtype=bool)
        allowed[num_leading:, num_leading:] = adjacency
        self.register_buffer("allowed", torch.from_numpy(allowed), persistent=False)
        queries, keys, is_open = _plan(adjacency, allowed, num_leading)
        self.is_sparse = is_open.size < WORTHWHILE * allowed.size
        self.num_patches = len(queries) if self.is_sparse else 0
        if self.is_sparse:
            place = np.empty(len(adjacency), dtype=np.int64)
            rows = np.arange(queries.size).reshape(queries.shape)
            filled = queries >= 0
            place[queries[filled] - num_leading] = rows[filled]
            bias = np.where(is_open, 0.0, -np.inf).astype(np.float32)
            self._keep("queries", np.maximum(queries, num_leading).ravel())
            self._keep("keys", np.maximum(keys, 0).ravel())
            self._keep("place", place)
            self._keep("bias", bias[:, None])

    def _keep(self, name: str, array: ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(
        self,
        query: Float[Tensor, "tokens batch heads width"],
        key: Float[Tensor, "tokens batch heads width"],
        value: Float[Tensor, "tokens batch heads width"],
        dropout: float = 0.0,
    ) -> Float[Tensor, "tokens batch channels"]:
        """Scaled dot-product attention under the mask; heads come back side by side."""
        if not self.is_sparse:
            return attend(query, key, value, self.allowed, dropout)
        _, batch, heads, width = query.shape
        patched = F.scaled_dot_product_attention(
            self._patches(query, self.queries),
            self._patches(key, self.keys),
            self._patches(value, self.keys),
            attn_mask=self.bias.to(query.dtype),
            dropout_p=dropout,
        )
        rows = patched.transpose(1, 2).reshape(-1, batch, heads * width)
        vertices = rows.index_select(0, self.place)
        if not self.num_leading:
            return vertices
        leading = attend(query[: self.num_leading], key, value, None, dropout)
        return torch.cat([leading, vertices])

    def _patches(
        self, x: Float[Tensor, "tokens batch heads width"], index: Int[Tensor, " rows"]
    ) -> Float[Tensor, "patches lanes rows_a_patch width"]:
        rows = x.index_select(0, index)
        _, batch, heads, width = x.shape
        return rows.view(self.num_patches, -1, batch * heads, width).transpose(1, 2)


def attend(
    query: Float[Tensor, "queries batch heads width"],
    key: Float[Tensor, "keys batch heads width"],
    value: Float[Tensor, "keys batch heads width"],
    allowed: Bool[Tensor, "queries keys"] | None,
    dropout: float = 0.0,
) -> Float[Tensor, "queries batch channels"]:
    """Scaled dot-product attention, tokens first, heads side by side in the result."""
    q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
    return mixed.permute(2, 0, 1, 3).flatten(2)


def patches(
    adjacency: Bool[ndarray, "vertices vertices"],
    rows: Int[ndarray, " part"],
    size: int = PATCH_SIZE,
) -> list[Int[ndarray, " _"]]:
    """Vertices cut into connected-ish patches of at most `size`, by halving along a sweep.

    The sweep is the reverse Cuthill-McKee order of each part, so cuts are short.
    """
    if len(rows) <= size:
        return [np.sort(rows)]
    graph = csr_matrix(adjacency[np.ix_(rows, rows)])
    swept = rows[reverse_cuthill_mckee(graph, symmetric_mode=True)]
    count = -(-len(rows) // size)
    cut = round(len(rows) * (count // 2) / count)
    return patches(adjacency, swept[:cut], size) + patches(adjacency, swept[cut:], size)


def _plan(
    adjacency: Bool[ndarray, "vertices vertices"],
    allowed: Bool[ndarray, "tokens tokens"],
    num_leading: int,
) -> tuple[
    Int[ndarray, "patches rows"], Int[ndarray, "patches keys"], Bool[ndarray, "patches rows keys"]
]:
    """Token numbers of each patch's queries and keys (-1 where empty), and its piece of the mask.

    An empty query row sees key 0, so that no row is closed throughout.
    """
    parts = patches(adjacency, np.arange(len(adjacency)))
    seen = [np.flatnonzero(adjacency[part].any(axis=0)) + num_leading for part in parts]
    leading = np.arange(num_leading)
    queries = _padded([part + num_leading for part in parts], 1)
    keys = _padded([np.concatenate([leading, part]) for part in seen], ALIGNMENT)
    is_open = allowed[queries[:, :, None], keys[:, None, :]]
    is_open &= (queries >= 0)[:, :, None] & (keys >= 0)[:, None, :]
    is_open[..., 0] |= queries < 0
    return queries, keys, is_open


def _padded(parts: list[Int[ndarray, " _"]], multiple: int) -> Int[ndarray, "parts widest"]:
    widest = max(len(part) for part in parts)
    table = np.full((len(parts), -(-widest // multiple) * multiple), -1, dtype=np.int64)
    for row, part in zip(table, parts, strict=True):
        row[: len(part)] = part
    return table
