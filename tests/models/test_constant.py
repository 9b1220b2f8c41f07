"""What depends on weights alone is computed once, and again after any change of the weights."""

import pytest
import torch

from pchmr.models import build_model
from pchmr.models.constant import Constant


@pytest.fixture
def model(tiny_body):
    torch.manual_seed(0)
    return build_model("fastmetro_xs", tiny_body.hierarchy, image_size=64).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64)


def uncached(model, images):
    """The same network where nothing can be remembered: with gradients."""
    return model(images).vertices.detach()


def predict(model, images):
    with torch.no_grad():
        return model(images).vertices


def by_optimizer(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, foreach=True)
    model(torch.rand(2, 3, 64, 64)).vertices.square().mean().backward()
    optimizer.step()


def in_place(model):
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.1)


def through_data(model):
    model.vertex_token_embed.weight.data.mul_(-1)


def by_new_storage(model):
    for value in model.parameters():
        value.data = value.data * 0.9


def by_state_dict(model):
    model.load_state_dict({k: v * 1.2 for k, v in model.state_dict().items()})


def by_attention_alone(model):
    with torch.no_grad():
        model.transformer_1.decoder.layers[0].multihead_attn.in_proj_bias[0] += 1


CHANGES = [by_optimizer, in_place, through_data, by_new_storage, by_state_dict, by_attention_alone]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_is_seen(change, model, images):
    before = predict(model, images)
    assert torch.allclose(before, uncached(model, images), atol=1e-6)
    change(model)
    after = predict(model, images)
    assert not torch.allclose(before, after, atol=1e-5)
    assert torch.allclose(after, uncached(model, images), atol=1e-5)


def test_the_result_is_remembered(model, images, monkeypatch):
    first = predict(model, images)
    layer = model.transformer_1.decoder.layers[0]
    monkeypatch.setattr(layer, "_before_image", None)
    assert torch.equal(predict(model, images), first)


def test_training_remembers_nothing(model, images):
    predict(model, images)
    model.train()
    assert torch.allclose(model(images).vertices, uncached(model.eval(), images), atol=1e-5)


def test_inference_mode_and_no_grad_mix(model, images):
    with torch.inference_mode():
        first = model(images).vertices.clone()
    assert torch.equal(predict(model, images), first)


def test_another_precision_is_another_result():
    constant, weight = Constant(), torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        (low,) = constant(lambda: (weight @ weight,), (weight,))
    (high,) = constant(lambda: (weight @ weight,), (weight,))
    assert (low.dtype, high.dtype) == (torch.bfloat16, torch.float32)


def test_a_pinned_result_stays():
    constant, weight = Constant(), torch.ones(2)
    constant(lambda: (weight * 2,), (weight,))
    constant.pin()
    (result,) = constant(lambda: (weight * 3,), (weight + 1,))
    assert result.tolist() == [2, 2]


def count_products(program) -> int:
    return sum("linear" in str(node.target) for node in program.graph.nodes)


def exported(model, images):
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        assert torch.allclose(program.module()(images).vertices, model(images).vertices, atol=1e-5)
    return program


def test_a_pinned_copy_says_the_same(model, images):
    assert torch.equal(predict(model.pinned_copy(), images), predict(model, images))


@pytest.mark.slow
def test_a_pinned_graph_lacks_the_constant_products(model, images):
    predict(model, images)
    pinned, traced = (exported(m, images[:1]) for m in (model.pinned_copy(), model))
    assert count_products(pinned) == count_products(traced) - 5


def test_a_batch_of_one_mistakes_no_image_for_a_constant(ring, images):
    torch.manual_seed(0)
    model = build_model("fastmetro_l", ring, backbone="xs", image_size=64).eval()
    for image in images[:, None]:
        assert torch.allclose(predict(model, image), uncached(model, image), atol=1e-5)
