"""Own checkpoints (`.safetensors` with a note of what they hold), and the start of every run.

`load_model` turns options into a network and says what it started from, so that every result row
can repeat it.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pchmr.body import MeshHierarchy
from pchmr.body.levels import DOWNSAMPLING_FILE
from pchmr.config import ModelOptions, SettingError, from_dict, require
from pchmr.door import FileError, Json, parse_json
from pchmr.door.tensors import read_tensors
from pchmr.models.build import KEEP_RATIO, build_choice, build_model, model_spec
from pchmr.models.hmr import HMRModel, ModelChoice
from pchmr.models.imagenet import load_backbone
from pchmr.models.official import NUM_CELLS, CheckpointError, check_keys, load_official
from pchmr.models.started import StartedFrom
from pchmr.runs import file_sha256, replacing, shipped
from pchmr.seeds import derive_seed

SHIPPED = Path(__file__).parent / "weights"
EDITION = "_edition_"
"""In the names of earlier start weights, which what was measured with them still stands on."""
SMPL_HEAD = "smpl_parameter_regressor."
LARGEST_IMAGE, MOST_TOKENS = 4096, 4096


def save_checkpoint(
    path: Path,
    model: HMRModel,
    extra_meta: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes weights and what they belong to, whole or not at all.

    Args:
        path: File to write.
        model: Network to save.
        extra_meta: More plain values for the note.
        dtype: Storage of floating-point tensors; half precision halves the file.
    """
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu()
        for name, tensor in model.state_dict().items()
    }
    note = {
        **model.choice.as_dict(),
        "num_vertices": list(model.hierarchy.num_vertices),
        "topology_sha256": model.hierarchy.topology_hash,
        **(extra_meta or {}),
    }
    with replacing(Path(path)) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"pchmr": json.dumps(note)},
        )


def load_checkpoint(
    path: Path, hierarchy: MeshHierarchy, *, image_size: int | None = None
) -> tuple[HMRModel, Json]:
    """The network of an own checkpoint in float32, in evaluation mode, and the file's note.

    `image_size` replaces the side of the crops; the weights fit any.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint of this package, or made for
            another body.
    """
    state, note = read_checkpoint(path)
    found, wanted = tuple(note["num_vertices"]), tuple(hierarchy.num_vertices)
    if found != wanted:
        raise CheckpointError(
            f"checkpoint {path} was trained for a body with levels {found}, this one has {wanted}; "
            "give the body it was made for with --body"
        )
    if note.get("topology_sha256", hierarchy.topology_hash) != hierarchy.topology_hash:
        raise CheckpointError(
            f"checkpoint {path} was trained on another mesh with as many vertices as this body; "
            "give the body it was made for with --body"
        )
    choice = _choice_of(note, path)
    model = build_choice(replace(choice, image_size=image_size or choice.image_size), hierarchy)
    check_keys(state, model.state_dict(), f"checkpoint {path}")
    model.load_state_dict(state)
    return model.eval(), note


def _choice_of(note: Mapping[str, Any], path: Path) -> ModelChoice:
    """What a note says the network is built from; values that build none are refused."""
    try:
        choice = from_dict(ModelChoice, {f.name: note[f.name] for f in fields(ModelChoice)})
    except SettingError as error:
        raise CheckpointError(f"checkpoint {path}: its note is damaged: {error}") from None
    tokens = 1 if choice.num_tokens is None else choice.num_tokens
    if not (1 <= choice.image_size <= LARGEST_IMAGE and 1 <= tokens <= MOST_TOKENS):
        raise CheckpointError(
            f"checkpoint {path}: its note is damaged: image_size {choice.image_size}, num_tokens "
            f"{choice.num_tokens}; get the file again"
        )
    return choice


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Tensors and note of an own checkpoint; see `load_checkpoint`."""
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} not found; check --checkpoint")
    try:
        state, metadata = read_tensors(path)
        note = parse_json(metadata.get("pchmr", "{}"))
    except FileError as error:
        raise CheckpointError(
            f"checkpoint {path} is truncated or no safetensors file ({error.reason}); get the file "
            "again"
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"checkpoint {path}: its note is damaged ({error}); get the file again"
        ) from None
    known = {f.name for f in fields(ModelChoice)} | {"num_vertices"}
    missing = sorted(known - set(note)) if isinstance(note, dict) else sorted(known)
    if missing:
        raise CheckpointError(
            f"checkpoint {path} was not written by pchmr: its note lacks {', '.join(missing)}"
        )
    counts = note["num_vertices"]
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise CheckpointError(f"checkpoint {path}: its note is damaged: num_vertices {counts!r}")
    return state, note


def load_model(
    options: ModelOptions,
    hierarchy: MeshHierarchy,
    *,
    seed: int,
    image_size: int | None = None,
) -> tuple[HMRModel, StartedFrom]:
    """The network that options ask for, and what it started from.

    Args:
        options: Name, checkpoint, backbone; see `ModelOptions`.
        hierarchy: Mesh levels of the body.
        seed: Decides random weights.
        image_size: Side of a crop in pixels in place of the network's own.

    Returns:
        The model, and `started_from`: `kind` (random, shipped, checkpoint, official), `name`,
        `sha256` of the file; with `--backbone-weights` also `backbone_file`, `backbone_sha256`;
        `random` names an SMPL head that the file did not hold.

    Raises:
        SettingError: A contradiction, an unknown name, or a file that cannot be used.
    """
    path = options.checkpoint or _shipped(options)
    if path is None:
        return _random_model(options, hierarchy, seed, image_size)
    if path.suffix == ".safetensors":
        model, _ = load_checkpoint(path, hierarchy, image_size=image_size)
        kind = "checkpoint" if options.checkpoint else "shipped"
    else:
        model, kind = load_official(path, hierarchy, image_size=image_size), "official"
        _refuse_computed(path, hierarchy)
    _check_asked(options, model)
    _check_read(options, model)
    started_from = StartedFrom(kind=kind, name=model.name, file=path.name, sha256=file_sha256(path))
    if options.smpl_head and not model.choice.smpl_head:
        model = _with_smpl_head(model, seed)
        started_from["random"] = "SMPL head"
    return model, started_from


def _refuse_computed(path: Path, hierarchy: MeshHierarchy) -> None:
    """Official weights fit SMPL's own levels alone; others have as many vertices at best."""
    if hierarchy.is_computed:
        raise CheckpointError(
            f"checkpoint {path} was trained on SMPL with the mesh levels of {DOWNSAMPLING_FILE}, "
            "this body has another mesh or other levels: give --body PATH of SMPL, that file "
            "beside it"
        )


def _with_smpl_head(model: HMRModel, seed: int) -> HMRModel:
    """The network with an SMPL head of random weights, as FastMETRO adds it to a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        whole = build_choice(replace(model.choice, smpl_head=True), model.hierarchy)
    missing = whole.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert all(key.startswith(SMPL_HEAD) for key in missing)
    return whole.eval()


def start_path(model: str, edition: int | None = None) -> Path:
    """Where start weights of a network are shipped, if they are: the latest, or an edition's."""
    suffix = "" if edition is None else f"{EDITION}{edition}"
    return SHIPPED / f"{model}{suffix}.safetensors"


def _shipped(options: ModelOptions) -> Path | None:
    """The start weights of the asked network; None where random ones are asked for."""
    if options.from_scratch or options.backbone_weights:
        return None
    spec = model_spec(options.model)
    path, others = start_path(options.model, options.edition), []
    if options.backbone not in (None, spec.backbone):
        others.append(f"--backbone {options.backbone}")
    if options.keep_ratio not in (None, KEEP_RATIO):
        others.append(f"--keep-ratio {options.keep_ratio}")
    if options.learned_upsample:
        others.append("--learned-upsample")
    if others or not path.is_file():
        if options.edition is not None:
            others.append(f"--edition {options.edition}")
        named = " with ".join([f"--model {options.model}", *others])
        raise SettingError(
            f"no start weights are shipped for {named}; give --checkpoint FILE or --from-scratch "
            "(with --backbone-weights FILE where you have one)"
        )
    return shipped(path)


def _random_model(
    options: ModelOptions, hierarchy: MeshHierarchy, seed: int, image_size: int | None
) -> tuple[HMRModel, StartedFrom]:
    """Random weights from the seed alone, the backbone from a file where one is given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        model = build_model(
            options.model,
            hierarchy,
            backbone=options.backbone,
            image_size=image_size,
            smpl_head=options.smpl_head,
            keep_ratio=options.keep_ratio or KEEP_RATIO,
            learned_upsample=options.learned_upsample,
        )
    _check_read(options, model)
    started_from = StartedFrom(kind="random", name=model.name, sha256=None)
    path = options.backbone_weights
    if path is not None:
        load_backbone(model, path)
        started_from["backbone_file"] = path.name
        started_from["backbone_sha256"] = file_sha256(path)
    return model.eval(), started_from


def _check_read(options: ModelOptions, model: HMRModel) -> None:
    """Refuses an option that the network has no use for."""
    require(
        options.keep_ratio is None or "keep_ratio" in model.spec.reads,
        f"--keep-ratio is read by TORE only, not by {model.name}: leave it out",
    )


def _check_asked(options: ModelOptions, model: HMRModel) -> None:
    """Refuses options that the checkpoint contradicts; the default model name asks for nothing."""
    choice = model.choice
    asked = {
        "--model": (options.model, model.name, ModelOptions().model),
        "--backbone": (options.backbone, choice.backbone, None),
        "--learned-upsample": (options.learned_upsample, choice.learned_upsample, False),
    }
    ratio = options.keep_ratio
    if ratio is not None and int(NUM_CELLS * ratio) != choice.num_tokens:
        asked["--keep-ratio"] = (ratio, round(choice.keep_ratio, 3), None)
    for flag, (wanted, found, default) in asked.items():
        if wanted not in (found, default):
            raise SettingError(
                f"{flag} {wanted} contradicts --checkpoint {options.checkpoint}, which holds "
                f"{found}; leave {flag} out"
            )
    if options.backbone_weights is not None:
        raise SettingError(
            "--backbone-weights would replace the checkpoint's backbone; leave it or --checkpoint "
            "out"
        )
