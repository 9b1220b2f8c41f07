"""Parameter names: ours (timm's inside the backbone) and those of the published state dicts.

The published networks and ours hold the same tensors in the same order; names differ in the
backbone only. Every rule stands in a table below.
"""

import re

from torch import nn

RESNET_PARTS = {
    "conv1": "0",
    "bn1": "1",
    "layer1": "4",
    "layer2": "5",
    "layer3": "6",
    "layer4": "7",
}
EFFICIENTNET_PARTS = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
EFFICIENTNET_FIRST_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
EFFICIENTNET_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)")


def official_names(model: nn.Module) -> dict[str, str]:
    """Published name of every entry of the model's state dict, in the published order."""
    keys = list(model.state_dict())
    prefix = "backbone."
    inner = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
    renamed = dict(zip(inner, official_backbone_names(inner), strict=True))
    return {
        key: prefix + renamed[key.removeprefix(prefix)] if key.startswith(prefix) else key
        for key in keys
    }


def official_backbone_names(names: list[str]) -> list[str]:
    """Published names of a timm backbone's entries, which kind it is being told by the names."""
    if "conv_stem.weight" in names:
        return _efficientnet(names)
    if "conv2.weight" in names:
        return names  # HRNet: both follow the original's names
    return [_replace_head(name, RESNET_PARTS) for name in names]


def _replace_head(name: str, parts: dict[str, str]) -> str:
    head, rest = name.split(".", 1)
    return f"{parts[head]}.{rest}"


def _efficientnet(names: list[str]) -> list[str]:
    """timm counts blocks within a stage, the original counts them through."""
    renamed, numbers = [], {}
    for name in names:
        match = _BLOCK.fullmatch(name)
        if match is None:
            renamed.append(_replace_head(name, EFFICIENTNET_PARTS))
            continue
        stage, block, layer, entry = match.groups()
        number = numbers.setdefault((stage, block), len(numbers))
        table = EFFICIENTNET_BLOCK if number else EFFICIENTNET_FIRST_BLOCK
        renamed.append(f"_blocks.{number}.{table[layer]}.{entry}")
    return renamed
