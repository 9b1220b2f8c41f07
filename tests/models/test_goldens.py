"""Published FastMETRO and TORE, number for number: outputs, intermediates, keys, gradients."""

import json
from functools import cache, partial

import numpy as np
import pytest
import torch

from pchmr.models import build_model, load_official, to_official
from pchmr.models.names import official_names

TOLERANCE = 5e-5
OUTPUTS = {
    "pred_cam": "camera",
    "pred_3d_joints": "joints",
    "pred_3d_vertices_coarse": "vertices_coarse",
    "pred_3d_vertices_intermediate": "vertices_mid",
    "pred_3d_vertices_fine": "vertices",
    "pred_rotmat": "rotmat",
    "pred_betas": "betas",
    "token_heatmap": "token_heatmap",
}
GOLDENS = {
    "fastmetro_s_r50": ("fastmetro_s", {}),
    "fastmetro_s_r50_smpl": ("fastmetro_s", {"smpl_head": True}),
    "tore_s_r50": ("tore_s", {}),
    "tore_s_efficientnet_b0": ("tore_s", {"backbone": "efficientnet_b0"}),
}
HEAVIER = [pytest.param(name, marks=pytest.mark.slow) for name in ("fastmetro_s_r50", "tore_s_r50")]


@pytest.fixture
def golden(shared):
    def read(name: str):
        path = shared / "goldens" / f"{name}__synth"
        return json.loads(path.with_suffix(".json").read_text()), np.load(f"{path}.npz")

    return read


@cache
def fresh(name, hierarchy):
    """The golden's network with random weights."""
    model_name, options = GOLDENS[name]
    return build_model(model_name, hierarchy, **options)


@pytest.mark.parametrize("name", GOLDENS)
def test_keys_shapes_and_dtypes_are_the_published_ones(name, golden, synth):
    wanted, _ = golden(name)
    state = to_official(fresh(name, synth))
    found = [
        {"key": k, "shape": list(v.shape), "dtype": str(v.dtype).removeprefix("torch.")}
        for k, v in state.items()
    ]
    assert found == wanted["keys"]


def watch(model) -> dict[str, torch.Tensor]:
    """Tensors under the goldens' names, filled by the next forward pass."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name, module, args, result):
        parts = result if isinstance(result, tuple) else (result,)
        names = [f"{name}.{i}" for i in range(len(parts))] if isinstance(result, tuple) else [name]
        seen.update(zip(names, parts, strict=True))

    for name, module in model.named_children():
        module.register_forward_hook(partial(keep, name))
    model.conv_1x1.register_forward_pre_hook(
        lambda _, args: seen.update({"backbone": args[0], "backbone_reduction_6": args[0]})
    )
    return seen


def intermediate(name: str, shape, seen, model) -> torch.Tensor:
    if name.startswith("position_encoding"):
        return model.get_buffer(name)[:, 0].T.reshape(shape)
    if name.endswith("_first8"):
        return seen[name.removesuffix("_first8")][:8]
    if name.endswith("_c0_8"):
        return seen[name.removesuffix("_c0_8")][:, :8]
    return seen[name]


@pytest.mark.parametrize("name", ["fastmetro_s_r50_smpl", "tore_s_efficientnet_b0", *HEAVIER])
def test_outputs_and_intermediates(name, golden, synth, rule_state, rule_images):
    _, arrays = golden(name)
    model = load_official(rule_state(fresh(name, synth)), synth)
    seen = watch(model)
    with torch.no_grad():
        output = model(rule_images)
    for key in arrays:
        wanted = arrays[key]
        if key.startswith("inter/"):
            found = intermediate(key.removeprefix("inter/"), wanted.shape, seen, model)
        else:
            found = getattr(output, OUTPUTS[key])
        assert tuple(found.shape) == wanted.shape, key
        assert np.abs(found.numpy() - wanted).max() <= TOLERANCE, key


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_gradient_norms(name, golden, synth, rule_state, rule_images):
    wanted, _ = golden(name)
    model = load_official(rule_state(fresh(name, synth)), synth)
    output = model(rule_images)
    parts = [x for key, x in output._asdict().items() if x is not None and key != "token_heatmap"]
    torch.stack([x.abs().mean() for x in parts]).sum().backward()
    parameters = dict(model.named_parameters())
    for key, official in official_names(model).items():
        if key in parameters:
            norm, gradient = wanted["grad_norms_eval_mode"][official], parameters[key].grad
            assert (norm is None) == (gradient is None), official
            if norm is not None:
                assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-8), official
