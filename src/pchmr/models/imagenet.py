"""Weights for a backbone from a file: ImageNet's under three naming schemes, or another XS's."""

import re
from pathlib import Path

from torch import Tensor

from pchmr.door import FileError
from pchmr.door.tensors import read_tensors
from pchmr.models.hmr import HMRModel
from pchmr.models.names import official_backbone_names
from pchmr.models.official import CheckpointError, check_keys, read_state_dict

HEADS = ("fc.", "classifier.", "head.", "_fc.")
TORCHVISION_EFFICIENTNET = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.8.0": "conv_head",
    "features.8.1": "bn2",
    "classifier.1": "classifier",
}
TORCHVISION_FIRST_BLOCK = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
TORCHVISION_BLOCK = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
_BLOCK = re.compile(r"features\.(\d+)\.(\d+)\.block\.(\d\.\w+)\.(\w+)")


def load_backbone(model: HMRModel, path: Path) -> None:
    """Fills the model's backbone from a `.safetensors` or `torch.save` file; heads are left out.

    Raises:
        CheckpointError: The file cannot be read or does not fit; every differing key is named.
    """
    if not path.is_file():
        cure = "check --backbone-weights"
        if model.keypoint_head is not None:
            cure += "; those of an XS network come from `pchmr train --recipe start-keypoints`"
        raise CheckpointError(f"backbone weights {path} not found; {cure}")
    wanted, state = model.backbone.state_dict(), read_backbone(path)
    if model.keypoint_head is not None and any(k.startswith("keypoint_head.") for k in state):
        _load_keypoints(model, state, path)
        return
    state = _renamed(state, list(wanted))
    state = {k: v for k, v in state.items() if k in wanted or not k.startswith(HEADS)}
    for key, tensor in wanted.items():
        optional = key.startswith(HEADS) or key.endswith("num_batches_tracked")
        if optional:
            state.setdefault(key, tensor)
    check_keys(state, wanted, f"backbone weights {path}")
    model.backbone.load_state_dict(state)


def _load_keypoints(model: HMRModel, state: dict[str, Tensor], path: Path) -> None:
    """Backbone and keypoint head of another XS network, from its whole checkpoint.

    One whose file has no running statistics begins with fresh ones.
    """
    prefixes = ("backbone.", "keypoint_head.")
    parts = {k: v for k, v in state.items() if k.startswith(prefixes)}
    wanted = {k: v for k, v in model.state_dict().items() if k.startswith(prefixes)}
    trained = {name for name, _ in model.named_parameters()}
    if not any(key in state for key in wanted.keys() - trained):
        wanted = {k: v for k, v in wanted.items() if k in trained}
    check_keys(parts, wanted, f"backbone weights {path}")
    model.load_state_dict(parts, strict=False)


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file; a `module.` prefix is dropped.

    Raises:
        CheckpointError: It is damaged, or no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            raw, _ = read_tensors(path)
        except FileError as error:
            raise CheckpointError(
                f"backbone weights {path} cannot be read: {error.reason}; get the file again"
            ) from None
    else:
        raw = read_state_dict(path)
        raw = raw.get("state_dict", raw) if isinstance(raw, dict) else raw
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise CheckpointError(f"backbone weights {path} are no state dict; nothing was loaded")
    return {str(key).removeprefix("module."): value for key, value in raw.items()}


def _renamed(state: dict[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """The state under timm's names, whichever of the three schemes it uses."""
    if "features.0.0.weight" in state and "conv_stem.weight" in wanted:
        return {_from_torchvision(key): value for key, value in state.items()}
    original = dict(zip(official_backbone_names(wanted), wanted, strict=True))
    if "_conv_stem.weight" in state or "4.0.conv1.weight" in state:
        return {original.get(key, key): value for key, value in state.items()}
    return state


def _from_torchvision(key: str) -> str:
    """timm's name of an entry of torchvision's EfficientNet-b0."""
    match = _BLOCK.fullmatch(key)
    if match is None:
        head, _, entry = key.rpartition(".")
        return f"{TORCHVISION_EFFICIENTNET.get(head, head)}.{entry}"
    stage, block, layer, entry = match.groups()
    table = TORCHVISION_FIRST_BLOCK if stage == "1" else TORCHVISION_BLOCK
    return f"blocks.{int(stage) - 1}.{block}.{table.get(layer, layer)}.{entry}"
