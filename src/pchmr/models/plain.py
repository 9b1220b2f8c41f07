"""The plain formulation of FastMETRO and TORE: the slow twin that the fast one is held against.

It computes what the papers write down: `nn.MultiheadAttention` over dense boolean masks, every
token repeated for every item, upsampling by sparse products item by item, batch normalization apart
from the convolutions. It shares the weights and returns the same numbers.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pchmr.models.hmr import HMRModel
from pchmr.models.transformer import Attention, DecoderLayer, EncoderLayer, Transformer
from pchmr.models.upsampling import Upsampling


class PlainEncoderLayer(nn.Module):
    """The published encoder layer."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.layer = layer
        self.self_attn = plain_attention(layer.self_attn)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """One layer over (tokens, batch, channels)."""
        layer = self.layer
        x = layer.norm1(tokens)
        tokens = tokens + layer._drop(self.self_attn(x + positions, x + positions, x)[0])
        return tokens + layer._feed_forward(layer.norm2(tokens))


class PlainDecoderLayer(nn.Module):
    """The published decoder layer."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.layer = layer
        self.self_attn = plain_attention(layer.self_attn)
        self.multihead_attn = plain_attention(layer.multihead_attn)

    def forward(
        self, tokens: Tensor, memory: Tensor, positions: Tensor, closed: Tensor | None
    ) -> Tensor:
        """One layer; `closed` is true where a token must not look."""
        layer = self.layer
        x = layer.norm1(tokens)
        tokens = tokens + layer._drop(self.self_attn(x, x, x, attn_mask=closed)[0])
        x = layer.norm2(tokens)
        tokens = tokens + layer._drop(self.multihead_attn(x, memory + positions, memory)[0])
        return tokens + layer._feed_forward(layer.norm3(tokens))


class PlainTransformer(nn.Module):
    """The published transformer around a `Transformer`'s weights."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        encoder, decoder = transformer.encoder, transformer.decoder
        self.encoder_layers = nn.ModuleList(PlainEncoderLayer(x) for x in encoder.layers)  # type: ignore[arg-type]
        self.decoder_layers = nn.ModuleList(PlainDecoderLayer(x) for x in decoder.layers)  # type: ignore[arg-type]
        self.encoder_norm, self.decoder_norm = encoder.norm, decoder.norm

    def forward(
        self,
        image: Tensor,
        camera: Tensor,
        tokens: Tensor,
        positions: Tensor,
        neighborhood: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Transformer`."""
        batch = image.shape[1]
        camera, tokens = (x.expand(-1, batch, -1).contiguous() for x in (camera, tokens))
        padded = torch.cat([torch.zeros_like(positions[:1]), positions])
        encoded = torch.cat([camera, image])
        for layer in self.encoder_layers:
            encoded = layer(encoded, padded)
        encoded = self.encoder_norm(encoded)
        closed = None if neighborhood is None else ~neighborhood.allowed
        for layer in self.decoder_layers:
            tokens = layer(tokens, encoded[1:], positions, closed)
        return encoded[:1], encoded[1:], self.decoder_norm(tokens)


class PlainUpsampling(nn.Module):
    """A sparse matrix product for each item of the batch."""

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        coo = matrix.tocoo()
        index = torch.stack([torch.from_numpy(x).long() for x in (coo.row, coo.col)])
        values = torch.from_numpy(coo.data).float()
        self.matrix = torch.sparse_coo_tensor(
            index, values, coo.shape, check_invariants=True
        ).coalesce()

    def forward(self, coarse: Tensor) -> Tensor:
        """Vertices of the finer level, vertex axis first."""
        return torch.stack([torch.sparse.mm(self.matrix, x) for x in coarse.unbind(1)], dim=1)


def plain_attention(attention: Attention) -> nn.MultiheadAttention:
    """`nn.MultiheadAttention` with the same weights."""
    dim = attention.out_proj.in_features
    plain = nn.MultiheadAttention(dim, attention.num_heads, dropout=attention.dropout)
    plain.load_state_dict(attention.state_dict())
    return plain


def plain_copy(model: HMRModel) -> HMRModel:
    """A copy of the network in the plain formulation; dropout and weights stay."""
    plain = copy.deepcopy(model)
    plain.folded = None
    levels = (plain.hierarchy.upsample[1], plain.hierarchy.upsample[0])
    names = ("coarse2intermediate_upsample", "intermediate2fine_upsample")
    for name, matrix in zip(names, levels, strict=True):
        if isinstance(getattr(plain, name), Upsampling):
            setattr(plain, name, PlainUpsampling(matrix))
    for name, child in list(plain.named_children()):
        if isinstance(child, Transformer):
            setattr(plain, name, PlainTransformer(child))
    return plain.train(model.training)
