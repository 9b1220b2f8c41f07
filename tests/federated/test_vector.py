"""Flat vectors: exact round trips, a fingerprint, and the policies for normalization layers."""

import numpy as np
import pytest
import torch
from torch import nn
from toy import ToyNet

from pchmr.config import SettingError
from pchmr.federated.vector import Counters, FlatSpec, FlatView
from pchmr.models.trainable import frozen_norms, only_head_trains


def noise_of(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_round_trip_is_exact():
    model = ToyNet()
    spec = FlatSpec.of(model)
    view = FlatView(model, spec.parameters)
    values = noise_of(spec.num_parameters)
    view.write(values)
    np.testing.assert_array_equal(view.read(), values)
    found = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    np.testing.assert_array_equal(found, values)


def test_any_memory_format_works():
    model = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    spec = FlatSpec.of(model)
    view = FlatView(model, spec.parameters)
    values = noise_of(spec.num_parameters)
    view.write(values)
    np.testing.assert_array_equal(view.read(), values)
    np.testing.assert_array_equal(
        model.weight.detach().contiguous().numpy().reshape(-1), values[: model.weight.numel()]
    )
    base = noise_of(spec.num_parameters, 1)
    np.testing.assert_array_equal(view.take(base, np.empty_like(base)), values - base)
    np.testing.assert_array_equal(view.read(), base)


def test_fingerprint_knows_names_shapes_and_policy():
    models = (ToyNet(), ToyNet(norm=False), nn.Linear(3, 2), nn.Linear(2, 3))
    prints = {FlatSpec.of(model).fingerprint for model in models}
    prints |= {FlatSpec.of(ToyNet(), policy).fingerprint for policy in ("freeze", "local")}
    assert len(prints) == 5  # FedBN sends what the net without such layers would
    assert FlatSpec.of(ToyNet(seed=1)).fingerprint == FlatSpec.of(ToyNet(seed=2)).fingerprint


def test_policies_say_what_travels_and_what_stays():
    model = ToyNet()
    average, local, freeze = (FlatSpec.of(model, p) for p in ("average", "local", "freeze"))
    assert [s.name.rpartition(".")[2] for s in average.buffers[:2]] == [
        "running_mean",
        "running_var",
    ]
    assert average.num_buffers == 64
    assert local.num_buffers == freeze.num_buffers == 0
    assert local.num_kept == 128  # mean, variance, weight and bias of two layers of 16
    assert local.num_parameters == average.num_parameters - 64
    assert freeze.num_parameters == average.num_parameters
    assert average.variances.sum() == 32
    names = {s.name for s in (*average.parameters, *average.buffers, *local.kept)}
    assert not any("num_batches_tracked" in name for name in names)


def test_head_only():
    model = ToyNet()
    with only_head_trains(model, True):
        spec = FlatSpec.of(model)
        assert all(s.name.startswith("head.") for s in (*spec.parameters, *spec.buffers))
        with frozen_norms(model, every=False):
            model.train()
            assert not model.backbone[1].training
            assert model.head[1].training
    assert all(p.requires_grad for p in model.parameters())
    with only_head_trains(model, False):
        assert FlatSpec.of(model).num_parameters == sum(p.numel() for p in model.parameters())


def test_frozen_norms_stay_frozen_and_come_back():
    model = ToyNet()
    before = model.state_dict()["backbone.1.running_mean"].clone()
    with frozen_norms(model, every=True):
        model.train()
        model(torch.randn(8, 10))
        assert torch.equal(model.state_dict()["backbone.1.running_mean"], before)
    model.train()
    assert model.backbone[1].training
    model(torch.randn(8, 10))
    assert not torch.equal(model.state_dict()["backbone.1.running_mean"], before)


def test_counters_are_put_back():
    model = ToyNet().train()
    counters = Counters(model)
    model(torch.randn(8, 10))
    assert model.backbone[1].num_batches_tracked == 1
    counters.restore()
    assert model.backbone[1].num_batches_tracked == 0


def test_refusals():
    with pytest.raises(SettingError, match="no trainable weight"):
        FlatSpec.of(nn.ReLU())
    with pytest.raises(SettingError, match="float64"):
        FlatSpec.of(nn.Linear(2, 2).double())
    with pytest.raises(SettingError, match="--batch-norm freeze"):
        FlatSpec.of(nn.Linear(2, 2), "freeze")
    with pytest.raises(SettingError, match="no backbone"), only_head_trains(nn.Linear(2, 2), True):
        pass
