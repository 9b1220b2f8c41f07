"""Every network by name: shapes, gradients, round trips and steps, on two bodies."""

import copy
import dataclasses
from functools import cache

import pytest
import torch

from pchmr.config import OptimOptions, SettingError
from pchmr.models import MODELS, build_model
from pchmr.models.plain import plain_copy
from pchmr.training import train_step

XS = [name for name in MODELS if name.endswith("_xs")]
QUICK = [*XS, "fastmetro_s", "tore_s"]
NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]


STEPS = [
    pytest.param(n, whose, marks=() if n in quick else pytest.mark.slow)
    for whose, quick in (("tiny_body", QUICK), ("body", XS))
    for n in MODELS
]


@cache
def first_built(name, hierarchy):
    torch.manual_seed(0)
    return build_model(name, hierarchy, image_size=64)


def built(name, hierarchy):
    """A fresh model with the same random weights every time; reseeds what is drawn next."""
    model = copy.deepcopy(first_built(name, hierarchy))
    torch.manual_seed(1)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, tiny_body):
    hierarchy = tiny_body.hierarchy
    fine, mid, coarse = hierarchy.num_vertices
    model = built(name, hierarchy).eval()
    with torch.no_grad():
        output = model(torch.rand(3, 3, 64, 64))
    found = {
        key: tuple(value.shape) for key, value in output._asdict().items() if value is not None
    }
    wanted = {"camera": (3, 3), "joints": (3, 14, 3), "vertices": (3, fine, 3)}
    wanted |= {"vertices_coarse": (3, coarse, 3), "vertices_mid": (3, mid, 3)}
    if name.startswith("tore"):
        grid = 4 if name in XS else 2
        wanted["token_heatmap"] = (3, int(grid**2 * 0.8), grid**2)
        assert torch.allclose(output.token_heatmap.sum(dim=-1), torch.ones(3, 1))
    assert found == wanted


@pytest.mark.parametrize(("name", "whose"), STEPS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_training_step_reaches_every_weight(name, whose, batch, request, make_people):
    body = request.getfixturevalue(whose)
    model = built(name, body.hierarchy)
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    people = make_people(body, count=batch, size=64).batch(range(batch))
    model.train()
    terms = train_step(model, body, people, optimizer, OptimOptions(), epoch=4.0)
    assert all(value >= 0 for value in terms.values()) and ("pooling" in terms) == ("tore" in name)
    untouched = [
        key
        for key, value in model.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.abs().sum() > 0)
    ]
    # The softmax over positions cannot see a constant added to all of them.
    assert set(untouched) <= {"token_selector_fc.bias"}
    for key, value in model.named_parameters():
        assert torch.isfinite(value).all(), key
        assert value.requires_grad or torch.equal(value, before[key])


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name, tiny_body):
    first, second = built(name, tiny_body.hierarchy), built(name, tiny_body.hierarchy)
    with torch.no_grad():
        for value in second.parameters():
            value.add_(1)
    second.load_state_dict(first.state_dict(), strict=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(first.eval()(images).vertices, second.eval()(images).vertices)


@pytest.mark.parametrize("name", XS)
def test_embedded_body(name, body):
    model = built(name, body.hierarchy).train()
    output = model(torch.rand(2, 3, 64, 64))
    assert output.vertices.shape == (2, body.num_vertices, 3)
    assert output.keypoints_2d.shape == (2, 14, 2) and output.keypoints_2d.abs().max() <= 1
    output.vertices.square().mean().backward()
    assert model.vertex_token_embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", XS)
def test_xs_is_small(name, body):
    model = built(name, body.hierarchy)
    assert sum(p.numel() for p in model.parameters()) <= 5_000_000
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize("name", XS)
@pytest.mark.parametrize("size", [64, 96, 112, 224])
def test_xs_takes_any_image_size(name, size, tiny_body):
    model = built(name, tiny_body.hierarchy).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.rand(1, 3, size, size)).vertices).all()


@pytest.mark.parametrize("name", QUICK)
def test_batch_does_not_mix_items(name, tiny_body):
    model = built(name, tiny_body.hierarchy).eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = model(images).vertices[1:2], model(images[1:2]).vertices
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", XS)
def test_bfloat16_trains_and_answers_in_float32(name, tiny_body):
    model = built(name, tiny_body.hierarchy)
    images = torch.rand(2, 3, 64, 64)
    wanted = model.eval()(images).vertices
    with torch.autocast("cpu", torch.bfloat16):
        output = model.train()(images)
    assert all(value.dtype == torch.float32 for value in output if value is not None)
    assert torch.allclose(output.vertices, wanted, atol=0.1)
    output.vertices.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_smpl_head_on_a_batch_of_one(tiny_body):
    model = build_model("fastmetro_xs", tiny_body.hierarchy, image_size=64, smpl_head=True).train()
    output = model(torch.rand(1, 3, 64, 64))
    product = output.rotmat @ output.rotmat.mT
    assert torch.allclose(product, torch.eye(3).expand_as(product), atol=1e-5)
    assert output.betas.shape == (1, 10)


def test_training_only_outputs_are_gone_in_evaluation(tiny_body):
    model = built("fastmetro_xs", tiny_body.hierarchy).eval()
    assert model(torch.rand(1, 3, 64, 64)).keypoints_2d is None


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("fastmetro_xxl", {}, "fastmetro_xxl"),
        ("fastmetro_s", {"backbone": "vgg"}, "vgg"),
        ("tore_xs", {"keep_ratio": 0.01}, "keep_ratio"),
        ("fastmetro_xs", {"image_size": 16}, "image-size"),
    ],
)
def test_unusable_settings_are_named(name, options, named, tiny_body):
    with pytest.raises(SettingError, match=named):
        build_model(name, tiny_body.hierarchy, **options)


def test_two_mesh_levels_are_refused(tiny_body):
    whole = tiny_body.hierarchy
    two = dataclasses.replace(
        whole,
        num_vertices=whole.num_vertices[1:],
        upsample=whole.upsample[1:],
        faces=None,
        downsample=None,
    )
    with pytest.raises(SettingError, match="three mesh levels"):
        build_model("fastmetro_xs", two)


@pytest.mark.parametrize(
    "name", ["fastmetro_xs", "tore_xs", pytest.param("fastmetro_m", marks=pytest.mark.slow)]
)
def test_the_plain_formulation_says_the_same(name, body):
    torch.manual_seed(0)
    fast = build_model(name, body.hierarchy, image_size=64).eval()
    plain, images = plain_copy(fast), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(fast(images), plain(images), strict=True):
            assert a is None or torch.allclose(a, b, atol=1e-5)
    for model in (fast, plain):
        model.train()(images).vertices.square().mean().backward()
    wanted = plain.transformer_1.decoder_layers[0].self_attn.in_proj_weight.grad
    found = fast.transformer_1.decoder.layers[0].self_attn.in_proj_weight.grad
    if fast.spec.dropout == 0:
        assert torch.allclose(found, wanted, atol=1e-6)
