"""From a name and mesh levels to a network with random weights."""

from dataclasses import replace

from pchmr.body import MeshHierarchy
from pchmr.choices import load
from pchmr.config import SettingError
from pchmr.models.hmr import HMRModel, ModelChoice
from pchmr.models.specs import MODELS, ModelSpec

SMALLEST_IMAGE = 32
KEEP_RATIO = 0.8
"""Share of the image tokens that the published TORE keeps."""


def build_model(
    name: str,
    hierarchy: MeshHierarchy,
    *,
    backbone: str | None = None,
    image_size: int | None = None,
    smpl_head: bool = False,
    keep_ratio: float = KEEP_RATIO,
    learned_upsample: bool = False,
    dropout: float | None = None,
) -> HMRModel:
    """A network with random weights from the global generator.

    Args:
        name: Key of `MODELS`.
        hierarchy: Mesh levels of the body, three of them.
        backbone: Key of `BACKBONES` in place of the network's own.
        image_size: Side of a crop in pixels; the network's own (224, XS 112) without it.
        smpl_head: Adds FastMETRO's SMPL parameter regressor.
        keep_ratio: Share of the image tokens that TORE keeps.
        learned_upsample: Mid to fine vertices by a learned layer.
        dropout: Rate in place of the network's own.

    Raises:
        SettingError: A name or value that cannot be used, with the known ones.
    """
    choice = ModelChoice(
        model=name,
        backbone=backbone or model_spec(name).backbone,
        image_size=image_size or model_spec(name).image_size,
        smpl_head=smpl_head,
        keep_ratio=keep_ratio,
        learned_upsample=learned_upsample,
    )
    return build_choice(choice, hierarchy, dropout=dropout)


def model_spec(name: str) -> ModelSpec:
    """The network of that name; `SettingError` lists the known ones."""
    if name not in MODELS:
        raise SettingError(f"unknown --model {name}; known: {', '.join(MODELS)}")
    return MODELS[name]


def build_choice(
    choice: ModelChoice, hierarchy: MeshHierarchy, *, dropout: float | None = None
) -> HMRModel:
    """The network of a choice, with random weights; see `build_model`."""
    spec = model_spec(choice.model)
    if choice.backbone != spec.backbone:
        spec = replace(spec, keypoint_head=False)
    if dropout is not None:
        spec = replace(spec, dropout=dropout)
    if choice.image_size < SMALLEST_IMAGE:
        raise SettingError(f"--image-size must be at least {SMALLEST_IMAGE}")
    if len(hierarchy.num_vertices) != 3:
        raise SettingError(
            f"the networks need three mesh levels, the body has {len(hierarchy.num_vertices)}"
        )
    return load(spec.network)(choice, spec, hierarchy)
