"""Published FastMETRO and TORE checkpoints: `.bin` files in, networks out, and the exact way back.

Files are read with `weights_only`, so nothing in them is executed. What a file holds (family,
layers, backbone, tokens kept, heads) follows from its keys and shapes; then every key must fit.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pchmr.body import MeshHierarchy
from pchmr.config import SettingError
from pchmr.door import FileError
from pchmr.door.torch_files import UnsafeFileError, read_torch
from pchmr.models.build import build_choice
from pchmr.models.hmr import HMRModel, ModelChoice
from pchmr.models.names import official_names

IMAGE_SIZE, NUM_CELLS = 224, 49
SIZES = {1: "s", 2: "m", 3: "l"}
BACKBONE_MARKS = {
    "backbone.0.weight": "resnet50",
    "backbone.stage4.0.branches.0.0.conv1.weight": "hrnet_w64",
    "backbone._conv_stem.weight": "efficientnet_b0",
}
IGNORED_PREFIX = "backbone.classifier."  # HRNet's ImageNet head, absent in some files
VERTEX_KEYS = {
    "vertex_token_embed.weight": -1,
    "coarse2intermediate_upsample.weight": -2,
    "intermediate2fine_upsample.weight": -3,
}


class CheckpointError(SettingError):
    """A checkpoint that cannot be used; nothing was loaded from it."""


def load_official(
    checkpoint: str | Path | Mapping[str, Tensor],
    hierarchy: MeshHierarchy,
    *,
    image_size: int | None = None,
) -> HMRModel:
    """The network that a published checkpoint holds, in evaluation mode.

    Args:
        checkpoint: A `.bin` file, or its state dict; a `module.` prefix is dropped.
        hierarchy: Mesh levels; their counts must be those of the checkpoint's learned layers.
        image_size: Side of a crop in pixels in place of 224; the weights fit any.

    Raises:
        CheckpointError: The file is truncated, holds code or another model, or does not fit the
            body; every missing and unexpected key is named.
    """
    if isinstance(checkpoint, (str, Path)):
        source, raw = str(checkpoint), read_state_dict(Path(checkpoint))
    else:
        source, raw = "state dict", checkpoint
    state = _plain_state(raw, source)
    _check_vertices(state, hierarchy, source)
    choice = _variant(state, source)
    model = build_choice(replace(choice, image_size=image_size or choice.image_size), hierarchy)
    names = official_names(model)
    own = model.state_dict()
    check_keys(state, {names[key]: tensor for key, tensor in own.items()}, source)
    model.load_state_dict({key: state[names[key]] for key in own})
    return model.eval()


def to_official(model: HMRModel) -> dict[str, Tensor]:
    """The state dict under its published names, in the published order.

    Raises:
        SettingError: The network has no published counterpart (XS).
    """
    if model.spec.keypoint_head or model.choice.backbone.startswith("xs"):
        raise SettingError(f"{model.name} has no published counterpart; save it as .safetensors")
    state = model.state_dict()
    return {official: state[key] for key, official in official_names(model).items()}


def read_state_dict(path: Path) -> Any:
    """What `torch.save` wrote, tensors and plain containers only.

    Raises:
        CheckpointError: The file is missing, truncated, not a checkpoint, or holds code.
    """
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} not found; check --checkpoint")
    try:
        return read_torch(path)
    except UnsafeFileError as error:
        raise CheckpointError(
            f"checkpoint {path} asks to run {error.reason}; nothing was run or loaded; only "
            "tensors are read"
        ) from None
    except FileError as error:
        raise CheckpointError(
            f"checkpoint {path} is truncated or no checkpoint ({error.reason}); get the file again"
        ) from None


def _plain_state(raw: Any, source: str) -> dict[str, Tensor]:
    is_state = isinstance(raw, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in raw.items()
    )
    if not is_state:
        raise CheckpointError(f"{source} is no state dict (names and tensors); nothing was loaded")
    state = {key.removeprefix("module."): value for key, value in raw.items()}
    return {key: value for key, value in state.items() if not key.startswith(IGNORED_PREFIX)}


def _variant(state: Mapping[str, Tensor], source: str) -> ModelChoice:
    """What the keys and shapes tell."""
    layers = {
        int(match[1])
        for match in (re.match(r"transformer_1\.encoder\.layers\.(\d+)\.", key) for key in state)
        if match
    }
    backbones = [name for mark, name in BACKBONE_MARKS.items() if mark in state]
    if len(layers) not in SIZES or len(backbones) != 1:
        raise CheckpointError(
            f"{source} is no FastMETRO or TORE checkpoint: it has {len(layers)} encoder layers "
            f"(1 to 3 expected) and {len(backbones)} known backbones; nothing was loaded"
        )
    selector = state.get("token_selector_fc.weight")
    family = "fastmetro" if selector is None else "tore"
    num_tokens = NUM_CELLS if selector is None else _num_rows(selector)
    return ModelChoice(
        model=f"{family}_{SIZES[len(layers)]}",
        backbone=backbones[0],
        image_size=IMAGE_SIZE,
        smpl_head=any(key.startswith("smpl_parameter_regressor.") for key in state),
        keep_ratio=num_tokens / NUM_CELLS,
        num_tokens=None if selector is None else num_tokens,
        learned_upsample="intermediate2fine_upsample.weight" in state,
    )


def _check_vertices(state: Mapping[str, Tensor], hierarchy: MeshHierarchy, source: str) -> None:
    for key, level in VERTEX_KEYS.items():
        if key in state and _num_rows(state[key]) != hierarchy.num_vertices[level]:
            raise CheckpointError(
                f"{source} was trained for a mesh level of {_num_rows(state[key])} vertices "
                f"({key}), the body has {hierarchy.num_vertices[level]} there; give the body it "
                "was made for with --body"
            )


def _num_rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 0


def check_keys(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuses all but the wanted names, shapes and finite values, and names what differs."""
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    odd = [
        f"{key} {oddity}"
        for key, tensor in wanted.items()
        if key in state and (oddity := _oddity(state[key], tensor))
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found["unusable"] = odd
    if any(found.values()):
        parts = [f"{what}: {', '.join(keys)}" for what, keys in found.items() if keys]
        raise CheckpointError(
            f"{source} does not fit the model ({'; '.join(parts)}); nothing was loaded"
        )


def _oddity(tensor: Tensor, wanted: Tensor) -> str | None:
    """What makes a tensor's values unusable as weights; None where they are plain numbers."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is sparse, quantized or empty storage"
    if tensor.is_complex() or tensor.is_floating_point() != wanted.is_floating_point():
        return f"holds {tensor.dtype}"
    if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
        return "holds values that are not finite"
    return None
