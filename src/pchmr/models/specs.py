"""The networks by name, as data: sizes, widths and backbones; no torch here.

S, M and L are FastMETRO (Cho et al., ECCV 2022) and TORE (Dou et al., ICCV 2023) as published; XS
is the same plan at the width of a phone, with a backbone and a keypoint head of our own.
"""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What distinguishes one network from another.

    Attributes:
        family: Which of the two plans.
        num_layers: Encoder layers, and decoder layers, of each transformer.
        dims: Token width of the first and of the later transformers.
        ffn_dims: Hidden width of their feed-forward blocks.
        num_heads: Attention heads of the first and of the later transformers.
        dropout: Rate in attention, feed-forward and residual branches.
        backbone: Key of `backbone.BACKBONES`.
        image_size: Side of a crop in pixels.
        selector_dim: Hidden width of TORE's token pooling.
        learned_coarse: Coarse to mid vertices by a learned layer instead of the mesh's own weights.
        keypoint_head: Heat maps on the backbone's stride-8 features, as more memory tokens and as
            a training signal in the image plane.
    """

    family: Literal["fastmetro", "tore"]
    num_layers: int
    dims: tuple[int, int] = (512, 128)
    ffn_dims: tuple[int, int] = (2048, 512)
    num_heads: tuple[int, int] = (8, 8)
    dropout: float = 0.1
    backbone: str = "resnet50"
    image_size: int = 224
    selector_dim: int = 128
    learned_coarse: bool = False
    keypoint_head: bool = False


_FASTMETRO = ModelSpec(family="fastmetro", num_layers=1, learned_coarse=True)
_TORE = ModelSpec(family="tore", num_layers=1)
_XS = ModelSpec(
    family="fastmetro",
    num_layers=1,
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
    "fastmetro_s": _FASTMETRO,
    "fastmetro_m": replace(_FASTMETRO, num_layers=2),
    "fastmetro_l": replace(_FASTMETRO, num_layers=3),
    "tore_xs": replace(_XS, family="tore"),
    "tore_s": _TORE,
    "tore_m": replace(_TORE, num_layers=2),
    "tore_l": replace(_TORE, num_layers=3),
}
