import pickle

import pytest
import torch
from torch import nn
from toy import ToyNet, config_of, folder, world_of

from pchmr.config import ServerOptions, SettingError
from pchmr.federated import run_federated
from pchmr.federated.vector import FlatSpec
from pchmr.models.low_rank import only_low_rank_trains
from pchmr.runs import state_sha256

X = torch.randn(5, 10)


def test_starts_as_the_same_function_and_ends_with_the_corrections_merged():
    model = ToyNet().eval()
    names, before = [*model.state_dict()], model(X)
    with only_low_rank_trains(model, 4, seed=0):
        spec = FlatSpec.of(model)
        assert spec.num_parameters == 4 * (16 + 16)  # one matrix of 16 x 16 outside the backbone
        assert torch.equal(model(X), before)
        with torch.no_grad():
            model.low_rank.up[0].normal_()
        changed = model(X)
        changed.sum().backward()
        assert model.head[0].weight.grad is None and model.low_rank.down[0].grad.abs().sum() > 0
        pickle.loads(pickle.dumps(model))
    assert [*model.state_dict()] == names
    assert torch.allclose(model(X), changed, atol=1e-6) and not torch.equal(changed, before)
    assert all(p.requires_grad for p in model.parameters())


def test_a_run_sends_little_and_leaves_everything_else_alone(tmp_path):
    config = config_of({"trainable": "lora", "lora_rank": 4})
    start, world = world_of(config).model.state_dict(), world_of(config)
    result = run_federated(config, world, folder(tmp_path))
    moved = {k for k, v in result.state_dict.items() if not torch.equal(v, start[k])}
    assert "head.0.weight" in moved and not any(k.startswith("backbone") for k in moved)
    assert not any(row["quarantined"] for row in result.rows)
    again = run_federated(config, world_of(config), folder(tmp_path / "again"))
    assert state_sha256(again.state_dict) == state_sha256(result.state_dict)


def test_refusals():
    with pytest.raises(SettingError, match="--lora-rank 8"), only_low_rank_trains(
        nn.Linear(2, 2), 8, seed=0
    ):  # fmt: skip
        pass
    with pytest.raises(SettingError, match="--trainable lora only"):
        ServerOptions(lora_rank=4)
