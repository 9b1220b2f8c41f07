"""Image features: ResNet-50, HRNet-W64 and EfficientNet-b0 from timm, XS of our own.

Each maps normalized images to its last feature map through `forward_features`; XS gives a finer map
beside. Parameter names are timm's; the published names stand in `names.py`. Nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from pchmr.config import SettingError
from pchmr.models.xs import XSBackbone


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone is made, and the pixels between two cells of its last map."""

    make: Callable[[], nn.Module]
    num_features: int
    stride: int = 32


def _from_timm(name: str, **settings: Any) -> nn.Module:
    """A network of timm with random weights; the library is imported by those who need it."""
    from timm import create_model

    return create_model(name, pretrained=False, **settings)


def _resnet50() -> nn.Module:
    return _from_timm("resnet50", num_classes=0, global_pool="", zero_init_last=False)


def _hrnet_w64() -> nn.Module:
    return _from_timm("hrnet_w64", num_classes=0, global_pool="")


def _efficientnet_b0() -> nn.Module:
    """TensorFlow's padding and batch-norm epsilon, as in the published TORE.

    The published state dict holds the classifier, which nothing reads: it stays, frozen.
    """
    network = _from_timm("tf_efficientnet_b0")
    network.get_submodule("classifier").requires_grad_(False)
    return network


BACKBONES: dict[str, BackboneSpec] = {
    "resnet50": BackboneSpec(_resnet50, 2048),
    "hrnet_w64": BackboneSpec(_hrnet_w64, 2048),
    "efficientnet_b0": BackboneSpec(_efficientnet_b0, 1280),
    "xs": BackboneSpec(XSBackbone, XSBackbone.num_features, stride=16),
    "xs_bn": BackboneSpec(partial(XSBackbone, nn.BatchNorm2d), XSBackbone.num_features, stride=16),
}


def backbone_spec(name: str) -> BackboneSpec:
    """The backbone of that name; `SettingError` lists the known ones."""
    if name not in BACKBONES:
        raise SettingError(f"unknown --backbone {name}; known: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]
