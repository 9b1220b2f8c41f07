"""Folded batch normalization: the same features, and new ones after any change of the weights."""

import copy
import pickle

import pytest
import torch

from pchmr.models import build_model
from pchmr.models.backbone import BACKBONES
from pchmr.models.folded import FoldedBackbone, pairs
from pchmr.models.plain import plain_copy

SIZE = 64
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def first(ring):
    """TORE-S with EfficientNet, the smallest network that normalizes over batches."""
    torch.manual_seed(0)
    model = build_model("tore_s", ring, backbone="efficientnet_b0", image_size=SIZE)
    model(torch.rand(4, 3, SIZE, SIZE))  # running statistics that are not those of the start
    return model.eval()


@pytest.fixture
def model(first):
    return copy.deepcopy(first)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def maps(model, images):
    return model._maps(images)


@pytest.mark.parametrize(
    "name",
    ["efficientnet_b0", "xs_bn", *(pytest.param(n, marks=SLOW) for n in ("resnet50", "hrnet_w64"))],
)
def test_every_normalization_is_folded(name):
    torch.manual_seed(0)
    backbone = BACKBONES[name].make().train()
    images = torch.rand(2, 3, SIZE, SIZE)
    backbone.forward_features(images)
    backbone.eval()
    with torch.no_grad():
        norms = sum(isinstance(x, torch.nn.BatchNorm2d) for x in backbone.modules())
        assert len(pairs(backbone)) == norms
        folded, keys = FoldedBackbone(), list(backbone.state_dict())
        assert folded.fits(backbone, images)
        found, wanted = folded(backbone, images), backbone.forward_features(images)
    assert list(backbone.state_dict()) == keys
    maps = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for ours, plain in maps:
        assert (ours - plain).abs().max() <= 1e-5 * plain.abs().max()


def by_optimizer(model):
    for parameter in model.backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(model.backbone.parameters(), lr=0.01, foreach=True).step()


def in_place(model):
    with torch.no_grad():
        model.backbone.conv_stem.weight[0, 0, 0, 0] += 1


def through_data(model):
    model.backbone.conv_head.weight.data.mul_(1.2)


def by_state_dict(model):
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})


def by_statistics(model):
    model.train()(torch.rand(4, 3, SIZE, SIZE))
    model.eval()


CHANGES = [by_optimizer, in_place, through_data, by_state_dict, by_statistics]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_is_seen(change, model, images):
    before = maps(model, images)
    change(model)
    after, plain = maps(model, images), maps(plain_copy(model), images)
    assert not torch.allclose(before, after, rtol=1e-4, atol=1e-6)
    assert torch.allclose(after, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


def test_the_copy_is_kept_and_belongs_to_no_state(model, images):
    keys = list(model.state_dict())
    maps(model, images)
    kept = model.folded._memory.folded
    maps(model, images)
    assert model.folded._memory.folded is kept
    assert list(model.state_dict()) == keys


def test_copies_and_pickles_leave_it_behind(model, images):
    maps(model, images)
    assert copy.deepcopy(model).folded._memory is None
    assert pickle.loads(pickle.dumps(model.folded))._memory is None


def test_training_and_gradients_see_the_backbone_itself(model, images):
    assert not model.folded.fits(model.backbone, images)
    with torch.no_grad():
        assert model.folded.fits(model.backbone, images)
        assert not model.folded.fits(model.train().backbone, images)
    xs = BACKBONES["xs"].make().eval()
    with torch.no_grad():
        assert not model.folded.fits(xs, images)


def test_inference_mode_and_no_grad_mix(model, images):
    with torch.inference_mode():
        first = model(images).vertices.clone()
    with torch.no_grad():
        assert torch.equal(model(images).vertices, first)
