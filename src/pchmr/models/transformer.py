"""The pre-norm encoder-decoder of FastMETRO and TORE; tokens first, `nn.MultiheadAttention` names.

Constants stay constants: learned query tokens enter with a batch axis of one and grow to the batch
where they first meet an image. With dropout off that makes the first decoder layer's
self-attention, in training too, one item's work; in evaluation it is remembered (`constant.py`).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pchmr.models.constant import Constant
from pchmr.models.neighborhood import Neighborhood, attend

Tokens = Float[Tensor, "tokens _ channels"]
Heads = Float[Tensor, "tokens _ heads width"]
Memory = Float[Tensor, "image batch channels"]
MemoryHeads = Float[Tensor, "image _ heads width"]
Positions = Float[Tensor, "image 1 channels"]

TEMPERATURE = 1e4
TINY = 1e-6


def sine_positions(height: int, width: int, channels: int) -> Float[Tensor, "cells 1 channels"]:
    """Sine encoding of a grid, row by row, as in DETR (Carion et al. 2020) with normalization.

    Half of the channels encode y, the other half x; positions 1..n are scaled to 2 pi.
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half
    wavelength = TEMPERATURE**exponent
    y, x = (
        torch.arange(1, n + 1, dtype=torch.float32) / (n + TINY) * (2 * math.pi)
        for n in (height, width)
    )
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")).flatten(1)
    angle = grid[..., None] / wavelength
    waves = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(2)
    return torch.cat(list(waves), dim=-1)[:, None]


class Attention(nn.Module):
    """Multi-head attention whose projections can be shared and remembered."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def rate(self) -> float:
        """Dropout that is in force now."""
        return self.dropout if self.training else 0.0

    def project(self, part: int, x: Tokens) -> Heads:
        """Queries (part 0), keys (1) or values (2), split into heads."""
        weight, bias = self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part]
        return F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1))

    def mix(
        self,
        query: Heads,
        key: MemoryHeads,
        value: MemoryHeads,
        neighborhood: Neighborhood | None = None,
    ) -> Tokens:
        """Attention over projected heads, then the output projection."""
        if neighborhood is None:
            mixed = attend(query, key, value, None, self.rate)
        else:
            mixed = neighborhood(query, key, value, self.rate)
        return self.out_proj(mixed)


class FeedForward(nn.Module):
    """Attributes and the branch that encoder and decoder layers share."""

    linear1: nn.Linear
    linear2: nn.Linear

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads, dropout)
        self.dropout = dropout

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _feed_forward(self, x: Tokens) -> Tokens:
        return self._drop(self.linear2(self._drop(F.relu(self.linear1(x)))))


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward over camera and image tokens."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__(dim, ffn_dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, tokens: Memory, positions: Positions) -> Memory:
        """One layer; `positions` has zeros for the camera token."""
        x = self.norm1(tokens)
        placed = x + positions
        attention = self.self_attn
        query, key = attention.project(0, placed), attention.project(1, placed)
        tokens = tokens + self._drop(attention.mix(query, key, attention.project(2, x)))
        return tokens + self._feed_forward(self.norm2(tokens))


class DecoderLayer(FeedForward):
    """Masked self-attention, attention to the image, feed-forward."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__(dim, ffn_dim, num_heads, dropout)
        self.multihead_attn = Attention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.constant: Constant | None = None

    def forward(
        self,
        tokens: Tokens,
        memory: Memory,
        placed_memory: Memory,
        neighborhood: Neighborhood | None,
    ) -> Tokens:
        """One layer.

        Args:
            tokens: Joint and vertex tokens; learned ones with a batch axis of one.
            memory: Image tokens.
            placed_memory: Image tokens plus their positions.
            neighborhood: Who sees whom among `tokens`; None opens everything.
        """
        batch = memory.shape[1]
        if self.constant and not self.training and not torch.is_grad_enabled():
            tokens, query = self.constant(
                lambda: self._before_image(tokens, neighborhood, 1),
                (tokens, *self._before_image_weights()),
            )
        else:
            tokens, query = self._before_image(tokens, neighborhood, batch)
        cross = self.multihead_attn
        query = query.expand(-1, batch, -1, -1)
        key, value = cross.project(1, placed_memory), cross.project(2, memory)
        tokens = tokens + self._drop(cross.mix(query, key, value))
        return tokens + self._feed_forward(self.norm3(tokens))

    def _before_image(
        self, tokens: Tokens, neighborhood: Neighborhood | None, batch: int
    ) -> tuple[Tokens, Heads]:
        """Self-attention, and the queries of the attention to the image.

        Dropout makes items differ: then the projected heads, still one item's, grow to the batch.
        """
        attention = self.self_attn
        x = self.norm1(tokens)
        copies = batch if attention.rate else -1
        query, key, value = (
            attention.project(part, x).expand(-1, copies, -1, -1) for part in range(3)
        )
        tokens = tokens + self._drop(attention.mix(query, key, value, neighborhood))
        return tokens, self.multihead_attn.project(0, self.norm2(tokens))

    def _before_image_weights(self) -> tuple[Tensor, ...]:
        cross = self.multihead_attn
        own = (*self.self_attn.parameters(), *self.norm1.parameters(), *self.norm2.parameters())
        return (*own, cross.in_proj_weight.chunk(3)[0], cross.in_proj_bias.chunk(3)[0])


class Encoder(nn.Module):
    """Encoder layers and a final normalization."""

    def __init__(self, num_layers: int, dim: int, ffn: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            EncoderLayer(dim, ffn, heads, dropout) for _ in range(num_layers)
        )

    def forward(self, tokens: Memory, positions: Positions) -> Memory:
        """All layers."""
        for layer in self.layers:
            tokens = layer(tokens, positions)
        return self.norm(tokens)


class Decoder(nn.Module):
    """Decoder layers and a final normalization."""

    def __init__(self, num_layers: int, dim: int, ffn: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, ffn, heads, dropout) for _ in range(num_layers)
        )

    def forward(
        self,
        tokens: Tokens,
        memory: Memory,
        positions: Positions,
        neighborhood: Neighborhood | None,
    ) -> Tokens:
        """All layers."""
        placed = memory + positions
        for layer in self.layers:
            tokens = layer(tokens, memory, placed, neighborhood)
        return self.norm(tokens)


class Transformer(nn.Module):
    """Encoder over camera and image tokens, decoder over joint and vertex tokens."""

    def __init__(
        self,
        num_layers: int,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        dropout: float,
        *,
        learned_tokens: bool,
    ) -> None:
        """Builds the layers.

        Args:
            num_layers: Encoder layers, and decoder layers.
            dim: Token width.
            ffn_dim: Hidden width of the feed-forward blocks.
            num_heads: Attention heads.
            dropout: Rate in attention, feed-forward and residual branches.
            learned_tokens: Whether decoder tokens come straight from weights, so that what the
                first decoder layer does before it sees the image is a constant in evaluation.
        """
        super().__init__()
        self.encoder = Encoder(num_layers, dim, ffn_dim, num_heads, dropout)
        self.decoder = Decoder(num_layers, dim, ffn_dim, num_heads, dropout)
        if learned_tokens:
            self.decoder.layers[0].constant = Constant()  # type: ignore[assignment]
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        image: Memory,
        camera: Float[Tensor, "1 _ channels"],
        tokens: Tokens,
        positions: Positions,
        neighborhood: Neighborhood | None = None,
    ) -> tuple[Float[Tensor, "1 batch channels"], Memory, Tokens]:
        """Camera, image and decoder tokens after the transformer.

        Args:
            image: Image tokens.
            camera: The camera token; the decoder does not see it.
            tokens: Joint and vertex tokens, with a batch axis of one where they are learned.
            positions: Encoding of the image tokens' places.
            neighborhood: Who sees whom among `tokens`.
        """
        camera = camera.expand(-1, image.shape[1], -1)
        padded = torch.cat([torch.zeros_like(positions[:1]), positions])
        encoded = self.encoder(torch.cat([camera, image]), padded)
        decoded = self.decoder(tokens, encoded[1:], positions, neighborhood)
        return encoded[:1], encoded[1:], decoded
