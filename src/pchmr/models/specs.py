"""The networks by name, as data: sizes, widths and backbones; no torch here.

S, M and L are FastMETRO (Cho et al., ECCV 2022) and TORE (Dou et al., ICCV 2023) as published; XS
is the same plan at the width of a phone, with a backbone and a keypoint head of our own. XS-BN has
batch normalization in that backbone, for comparisons of what clients do with running statistics.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What distinguishes one network from another.

    Attributes:
        network: `module:class` of the plan, called with a choice, this spec and mesh levels.
        loss: Key of `losses.LOSSES` that it is trained with unless `--loss` names another.
        num_layers: Encoder layers, and decoder layers, of each transformer.
        dims: Token width of the first and of the later transformers.
        ffn_dims: Hidden width of their feed-forward blocks.
        num_heads: Attention heads of the first and of the later transformers.
        dropout: Rate in attention, feed-forward and residual branches.
        backbone: Key of `backbone.BACKBONES`.
        image_size: Side of a crop in pixels.
        selector_dim: Hidden width of TORE's token pooling.
        learned_coarse: Coarse to mid vertices by a learned layer instead of the mesh's own weights.
        reads: Options of a network that it reads and others ignore.
        keypoint_head: Heat maps on the backbone's stride-8 features, as more memory tokens and as
            a training signal in the image plane.
    """

    network: str
    loss: str
    num_layers: int
    dims: tuple[int, int] = (512, 128)
    ffn_dims: tuple[int, int] = (2048, 512)
    num_heads: tuple[int, int] = (8, 8)
    dropout: float = 0.1
    backbone: str = "resnet50"
    image_size: int = 224
    selector_dim: int = 128
    learned_coarse: bool = False
    reads: tuple[str, ...] = ()
    keypoint_head: bool = False


_FASTMETRO = ModelSpec(
    network="pchmr.models.fastmetro:FastMETRO", loss="fastmetro", num_layers=1, learned_coarse=True
)
_TORE = ModelSpec(
    network="pchmr.models.tore:TORE", loss="tore", num_layers=1, reads=("keep_ratio",)
)
_XS = replace(
    _FASTMETRO,
    loss="xs",
    learned_coarse=False,
    dims=(128, 64),
    ffn_dims=(128, 128),
    num_heads=(4, 2),
    dropout=0.0,
    backbone="xs",
    image_size=112,
    selector_dim=64,
    keypoint_head=True,
)

MODELS: dict[str, ModelSpec] = {
    "fastmetro_xs": _XS,
    "fastmetro_xs_bn": replace(_XS, backbone="xs_bn"),
    "fastmetro_s": _FASTMETRO,
    "fastmetro_m": replace(_FASTMETRO, num_layers=2),
    "fastmetro_l": replace(_FASTMETRO, num_layers=3),
    "tore_xs": replace(_XS, network=_TORE.network, reads=_TORE.reads),
    "tore_s": _TORE,
    "tore_m": replace(_TORE, num_layers=2),
    "tore_l": replace(_TORE, num_layers=3),
}
